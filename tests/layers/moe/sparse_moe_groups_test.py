"""Groups of tokens, and what they cost."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from tests.covering import covering
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make
from tests.layers.routers.router_case import router

GROUPS = (None, 5, "sequence", "auto")


def call(layer, inputs, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer(inputs, **kwargs)
    return [str(w.message) for w in caught if "quadratic" in str(w.message)]


@pytest.mark.parametrize(
    ("dispatch", "hidden_dim", "group_size", "factor", "warned"),
    [
        ("einsum", 32, None, 1.0, True),
        ("einsum", 256, None, 1.0, False),
        ("einsum", 32, 16, 1.0, False),  # small groups are cheap
        ("einsum", 32, 24, 2.0, True),  # unless they are roomy
        ("gather", 32, None, 1.0, False),
        ("ragged", 32, None, 1.0, False),
        ("auto", 32, None, 1.0, False),
    ],
)
def test_warns_where_the_einsum_is_quadratic(
    dispatch, hidden_dim, group_size, factor, warned
):
    layer = make(
        4,
        router={"capacity_factor": factor, "group_size": group_size},
        hidden_dim=hidden_dim,
        dispatch=dispatch,
    )
    messages = call(layer, data(4, 24), training=True)
    assert bool(messages) == warned
    for message in messages:
        assert "group_size" in message and "gather" in message


def test_a_soft_einsum_is_no_quadratic_one():
    # Its slots do not grow with the tokens.
    layer = make(4, router=router("soft"), dispatch="einsum")
    assert not call(layer, data(1, 60))


@pytest.mark.parametrize(
    ("name", "num_experts"),
    [
        (name, num_experts)
        for name in ("switch", "top_2", "expert_choice")
        for num_experts in (1, 8, 128, 2048)
        if (name, num_experts) != ("top_2", 1)  # two of one expert
    ],
)
def test_automatic_groups_bound_memory(num_experts, name):
    made = router(name, num_experts=num_experts, group_size="auto")
    for tokens in (1, 997, 4096, 65537, 2**20):
        size = made.tokens_per_group(tokens)
        assert 1 <= size <= tokens
        slots = num_experts * made.expert_capacity(size, training=True)
        assert 4 * size * slots <= 1.05 * 2**26  # 64 MiB, and rounding
        # Groups are alike: the last has hardly any padding.
        groups = -(-tokens // size)
        assert groups * size - tokens < groups
        # And not smaller than they need be; one expert is all tokens at most.
        if tokens > size and num_experts > 1:
            twice = num_experts * made.expert_capacity(2 * size, training=True)
            assert 8 * size * twice > 2**26


@pytest.mark.parametrize(
    ("group_size", "name"), covering(GROUPS, ["top_2", "soft"], strength=1)
)
def test_unknown_shapes_in_a_graph(group_size, name):
    layer = make(4, router=router(name, group_size=group_size))
    function = tf.function(
        lambda x: layer(x, training=True),
        input_signature=[tf.TensorSpec([None, None, DIM])],
    )
    for shape in ((1, 1), (3, 7)):
        inputs = data(*shape)
        np.testing.assert_allclose(
            function(inputs), layer(inputs, training=True), atol=1e-5
        )


@pytest.mark.parametrize(
    ("group_size", "training", "name"),
    covering(GROUPS, [False, True], ["switch", "expert_choice", "soft"]),
)
def test_empty_batches(group_size, training, name):
    layer = make(4, router=router(name, group_size=group_size))
    for shape in ((0, 4), (2, 0)):
        outputs = layer(data(*shape), training=training)
        assert outputs.shape == (*shape, DIM)
        assert all(np.isfinite(loss) for loss in layer.losses)


@pytest.mark.parametrize("name", ["expert_choice", "soft"])
def test_a_group_for_each_sequence_keeps_rows_apart(name):
    layer = make(3, router=router(name, group_size="sequence"))
    inputs = data(3, 6)
    together = layer(inputs)
    for row in range(3):
        np.testing.assert_allclose(
            together[row], layer(inputs[row : row + 1])[0], atol=1e-6
        )
    # One group of all does not.
    layer = make(3, router=router(name, group_size=None))
    assert not np.allclose(layer(inputs)[0], layer(inputs[:1])[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("group_size", GROUPS)
def test_any_rank(shape, group_size):
    layer = make(4, router=router("top_2", group_size=group_size))
    inputs = data(*shape)
    flat = layer(inputs.reshape(1, -1, DIM))  # dropless: groups do not matter
    np.testing.assert_allclose(
        layer(inputs), np.reshape(flat, inputs.shape), atol=1e-6
    )


@pytest.mark.parametrize("group_size", [0, -1, 2.5, "row"])
def test_errors_name_the_argument(group_size):
    with pytest.raises(ValueError, match="`group_size`"):
        layers.SwitchRouter(group_size=group_size)
