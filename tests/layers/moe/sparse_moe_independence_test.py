"""On what the answer for a token depends."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe import layers
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make
from tests.layers.routers.router_case import ALL
from tests.layers.routers.router_case import TOKEN_CHOICE
from tests.layers.routers.router_case import VOCABULARY
from tests.layers.routers.router_case import router

SEES_OTHERS = sorted(ALL.keys() - TOKEN_CHOICE.keys())


@functools.cache
def layer_of(name, group_size=None):
    return make(3, router=router(name, group_size=group_size))


@pytest.mark.parametrize("name", TOKEN_CHOICE)
@given(
    batch=st.integers(2, 4),
    length=st.integers(1, 6),
    group_size=st.sampled_from([None, 4]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=3)
def test_evaluation_does_not_look_at_the_neighbours(
    name, batch, length, group_size, masked, seed
):
    rng = np.random.default_rng(seed)
    layer = layer_of(name, group_size)
    inputs = rng.normal(size=(batch, length, DIM)).astype("float32")
    ids = rng.integers(0, VOCABULARY, (batch, length))
    mask = np.ones((batch, length), bool)
    if masked:
        mask = rng.random((batch, length)) < 0.7
    row = int(rng.integers(batch))
    # The neighbours all crowd into the first token's experts.
    crowd, crowd_ids = np.tile(inputs[row, :1], (batch, length, 1)), ids.copy()
    crowd[row], crowd_ids[:] = inputs[row], ids[row, 0]
    crowd_ids[row] = ids[row]
    alone = layer(
        inputs[row : row + 1],
        mask=mask[row : row + 1],
        token_ids=ids[row : row + 1],
    )
    for x, token_ids in ((inputs, ids), (crowd, crowd_ids)):
        outputs = layer(x, mask=mask, token_ids=token_ids)
        np.testing.assert_allclose(outputs[row], alone[0], atol=1e-6)


@pytest.mark.parametrize("name", TOKEN_CHOICE)
def test_evaluation_is_the_same_each_time(name):
    layer = layer_of(name)
    inputs, ids = data(2, 9), np.arange(18).reshape(2, 9)
    first, second = (layer(inputs, token_ids=ids) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ALL)
def test_what_is_called_causal_does_not_see_the_future(name):
    layer = layer_of(name)
    inputs, ids = data(1, 10), np.arange(10)[None]
    other, other_ids = inputs.copy(), ids.copy()
    # The later tokens want what the earlier ones want, only more so.
    other[:, 5:], other_ids[:, 5:] = 5 * inputs[:, :5], ids[:, :5]
    outputs = layer(inputs, token_ids=ids)
    changed = layer(other, token_ids=other_ids)
    same = np.allclose(outputs[:, :5], changed[:, :5], atol=1e-6)
    if layer.router.is_causal:
        assert same
    elif name in SEES_OTHERS:
        assert not same


@pytest.mark.parametrize("name", ALL)
def test_who_is_called_causal(name):
    expected = name not in (*SEES_OTHERS, "prioritized")
    assert router(name).is_causal == expected


def test_descending_gates_see_the_future_too():
    made = layers.TopKRouter(4, priority="gate_prioritized")
    assert not made.is_causal


@pytest.mark.parametrize("name", [*SEES_OTHERS, "prioritized"])
def test_causal_use_is_refused(name):
    made = router(name)
    with pytest.raises(ValueError, match="(?s)causal.*" + type(made).__name__):
        layers.SparseMoE(4, 8, router=made, causal=True)


@pytest.mark.parametrize("name", ["switch", "top_2", "hash"])
def test_causal_use_of_a_causal_router(name):
    layer = layers.SparseMoE(4, 8, router=router(name), causal=True)
    outputs = layer(data(1, 5), token_ids=np.arange(5)[None])
    assert outputs.shape == (1, 5, DIM)
    assert layer.get_config()["causal"] is True
