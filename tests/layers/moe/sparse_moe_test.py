import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe import layers
from keras_moe import ops
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import kernels
from tests.layers.moe.sparse_moe_case import make
from tests.reference import sparse_moe
from tests.reference import top_k


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 6),
    experts=st.integers(1, 4),
    gated=st.booleans(),
    padded=st.booleans(),
    group_size=st.sampled_from([None, 3]),
    factor=st.sampled_from([None, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(
    batch, length, experts, gated, padded, group_size, factor, seed
):
    rng = np.random.default_rng(seed)
    layer = make(
        experts,
        router={
            "eval_capacity_factor": factor,
            "min_expert_capacity": 1,
            "group_size": group_size,
        },
        gated=gated,
        activation="silu",
    )
    inputs = rng.normal(size=(batch, length, DIM)).astype("float32")
    mask = np.ones((batch, length), bool)
    if padded:
        mask = rng.random((batch, length)) < 0.6
    received = layer(inputs, mask=mask if padded else None)

    tokens = inputs.reshape(-1, DIM).astype("float64")
    capacity = None
    if factor is not None:
        capacity = ops.expert_capacity(
            group_size or len(tokens), experts, factor
        )
    weights = kernels(layer)
    kernel = weights.pop("router")
    bank = sparse_moe.ExpertBank(**weights, act=lambda x: x / (1 + np.exp(-x)))
    expected = []
    for rows, real in sparse_moe.in_groups(tokens, mask, group_size):
        seats, _ = top_k.route(rows @ kernel, 1, capacity, real)
        expected.append(sparse_moe.combine(rows, seats, bank))
    expected = np.concatenate(expected)[: batch * length]
    np.testing.assert_allclose(
        received, expected.reshape(inputs.shape), atol=1e-5
    )


@pytest.mark.parametrize("gated", [False, True])
def test_one_expert_is_a_feed_forward(gated):
    # The softmax over one expert is 1: nothing is left of the router.
    sparse = make(1, hidden_dim=16, gated=gated, activation="gelu")
    dense = layers.FeedForward(16, activation="gelu", gated=gated)
    inputs = data(2, 5)
    dense.build(inputs.shape)
    for mine, theirs in (("inner", "inner"), ("outer", "outer")) + (
        (("gate", "gate"),) if gated else ()
    ):
        kernel = getattr(sparse.experts, mine).kernel[0]
        getattr(dense, theirs).kernel.assign(kernel)
    np.testing.assert_allclose(sparse(inputs), dense(inputs), atol=1e-6)


def test_biases_are_each_experts_own():
    layer = make(3, use_bias=True)
    inputs = data(1, 7)
    tokens = inputs[0].astype("float64")
    weights = kernels(layer)
    seats, _ = top_k.route(tokens @ weights.pop("router"))
    bank = sparse_moe.ExpertBank(
        **weights,
        bi=layer.experts.inner.bias.numpy()[:, 0],
        bo=layer.experts.outer.bias.numpy()[:, 0],
    )
    np.testing.assert_allclose(
        layer(inputs)[0], sparse_moe.combine(tokens, seats, bank), atol=1e-5
    )


def test_dropped_tokens_come_out_as_exactly_zero():
    layer = make(
        2,
        router={"eval_capacity_factor": 0.5, "min_expert_capacity": 1},
        use_bias=True,
    )
    inputs = data(1, 12)
    logits = inputs[0] @ kernels(layer)["router"]
    kept = {seat.token for seat in top_k.route(logits, 1, 3)[0]}
    assert 0 < len(kept) <= 6
    outputs = np.asarray(layer(inputs))[0]
    for token in range(12):
        assert np.any(outputs[token]) == (token in kept)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 4)])
def test_any_rank(shape):
    layer = make()
    inputs = data(*shape)
    flat = layer(inputs.reshape(1, -1, DIM))
    np.testing.assert_allclose(
        layer(inputs), np.reshape(flat, inputs.shape), atol=1e-6
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
@pytest.mark.parametrize("group_size", [None, 3])
def test_empty_batch(shape, training, group_size):
    layer = make(router={"group_size": group_size})
    assert layer(data(*shape), training=training).shape == (*shape, DIM)
    assert all(np.isfinite(loss) for loss in layer.losses)


def test_gradients_equal_finite_differences():
    layer = make(3, router={"eval_capacity_factor": 0.7}, activation="tanh")
    inputs = data(2, 4)
    upstream = data(2, 4)

    def loss(x):
        return tf.reduce_sum(layer(x) * upstream)

    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        value = loss(x)
    variables = [v.value for v in layer.trainable_weights]
    gradients = tape.gradient(value, [x, *variables])
    assert all(g is not None for g in gradients)
    step = 1e-2
    for variable, gradient in zip(
        layer.trainable_weights, gradients[1:], strict=True
    ):
        direction = np.random.normal(size=variable.shape).astype("float32")
        start = variable.numpy()
        variable.assign(start + step * direction)
        above = float(loss(x))
        variable.assign(start - step * direction)
        below = float(loss(x))
        variable.assign(start)
        slope = float(tf.reduce_sum(gradient * direction))
        assert (above - below) / (2 * step) == pytest.approx(
            slope, rel=0.03, abs=0.03
        ), variable.path


def test_the_task_alone_teaches_the_router():
    layer = make(router={"load_balancing_loss_weight": 0.0})
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(data(2, 8), training=True)))
    gradient = tape.gradient(loss, layer.router.kernel.value)
    assert np.any(gradient)


@pytest.mark.parametrize("gated", [False, True])
def test_each_expert_starts_with_its_own_fan(gated):
    experts, dim, hidden = 8, 64, 96
    layer = make(experts, dim=dim, hidden_dim=hidden, gated=gated)
    banks = [(layer.experts.inner, dim), (layer.experts.outer, hidden)]
    if gated:
        banks.append((layer.experts.gate, dim))
    for bank, fan_in in banks:
        kernel = bank.kernel.numpy()
        expected = np.sqrt(0.1 / fan_in)
        # Of n normal draws the standard deviation is known to 1 / sqrt(2 n);
        # five of those, for each of 6144 values.
        n = kernel[0].size
        for expert in kernel:
            assert expert.std() == pytest.approx(
                expected, rel=5 / np.sqrt(2 * n)
            )
        for i in range(experts):
            for j in range(i):
                both = np.corrcoef(kernel[i].ravel(), kernel[j].ravel())
                assert abs(both[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize(
    "name", ["glorot_uniform", "he_normal", "lecun_uniform"]
)
def test_named_initializers_have_one_experts_fan(name):
    layer = make(16, dim=48, hidden_dim=80, kernel_initializer=name)
    one = keras.initializers.get(name)(shape=(48, 80))
    for expert in layer.experts.inner.kernel.numpy():
        assert expert.std() == pytest.approx(np.std(one), rel=0.08)


def test_other_initializers_are_left_alone():
    layer = make(2, kernel_initializer="ones")
    assert np.all(layer.experts.inner.kernel.numpy() == 1)


def test_a_seeded_initializer_still_tells_experts_apart():
    layer = make(
        3,
        dim=8,
        hidden_dim=8,
        kernel_initializer=keras.initializers.HeNormal(seed=1),
    )
    kernel = layer.experts.inner.kernel.numpy()
    assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_experts": 0}, "`num_experts`.*num_experts=0"),
        ({"hidden_dim": 0}, "`hidden_dim`.*hidden_dim=0"),
        ({"router": "swich"}, "`router`.*switch.*'swich'"),
        ({"router": 3}, "`router`.*router=3"),
        ({"router": layers.SwitchRouter(5)}, "num_experts=4.*num_experts=5"),
        ({"dispatch": "scatter"}, "`dispatch`.*gather.*'scatter'"),
        ({"expert_dropout_rate": 1.0}, "expert_dropout_rate=1.0"),
        ({"expert_dropout_rate": -0.1}, "expert_dropout_rate=-0.1"),
        ({"activation": "rleu"}, "rleu"),
        ({"kernel_initializer": "he_norml"}, "he_norml"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.SparseMoE(**{"num_experts": 4, "hidden_dim": 8, **arguments})


def test_refuses_an_unknown_last_axis():
    with pytest.raises(ValueError, match="static last axis"):
        layers.SparseMoE(4, 8).build((None, None, None))
    with pytest.raises(ValueError, match="static last axis"):
        layers.SparseMoE(4, 8).build((None,))


def test_two_layers_do_not_share_a_router():
    router = layers.SwitchRouter()
    first = layers.SparseMoE(4, 8, router=router)
    second = layers.SparseMoE(4, 8, router=router)
    first.build((None, None, DIM))
    with pytest.raises(ValueError, match="`router` must not be built"):
        second.build((None, None, DIM))


@pytest.mark.parametrize("shape", [(5, 2), (2, 4), (2, 1), (2,), (2, 5, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    layer = layers.SparseMoE(4, 8)
    with pytest.raises(ValueError, match=r"`mask` must have the shape.*\(2, 5"):
        layer(np.zeros((2, 5, 8), "float32"), mask=np.ones(shape, bool))


def test_an_additive_mask_is_refused():
    layer = layers.SparseMoE(4, 8)
    with pytest.raises(ValueError, match="`mask` must be boolean.*float32"):
        layer(
            np.zeros((2, 5, 8), "float32"),
            mask=np.zeros((2, 5), "float32"),
        )


def test_another_dimension_after_building_is_refused():
    layer = layers.SparseMoE(4, 8)
    layer(np.zeros((2, 5, 8), "float32"))
    with pytest.raises(ValueError, match="axis -1"):
        layer(np.zeros((2, 5, 9), "float32"))
