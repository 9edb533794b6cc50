import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.keras_internals import stored_kernel
from keras_moe.layers.moe._merge_experts import merge_experts
from keras_moe.weights._merged_kernel import merged_kernel

DIM, HIDDEN, EXPERTS = 6, 10, 4


def make(quantized=False, rank=None, dtype=None, **kwargs):
    experts = layers.Experts(
        EXPERTS,
        HIDDEN,
        kernel_initializer="glorot_normal",
        bias_initializer="normal",
        dtype=dtype,
        name="experts",
        **kwargs,
    )
    experts.build((None, EXPERTS, None, DIM))
    for bank in banks(experts):
        if quantized:
            bank.quantize("int8")
        if rank:
            bank.enable_lora(rank, lora_alpha=3)
            factor = bank.lora_kernel_b
            factor.assign(np.random.normal(size=factor.shape))
    return experts


def banks(experts):
    return [
        getattr(experts, name)
        for name in ("inner", "gate", "outer")
        if hasattr(experts, name)
    ]


def data():
    return np.random.normal(size=(5, DIM)).astype("float32")


def of_expert(experts, number, x):
    """What expert `number` makes of rows."""
    slots = np.broadcast_to(x[None, None], (1, EXPERTS, *x.shape))
    return np.asarray(experts(slots))[0, number]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("quantized", [False, True])
def test_the_merged_kernel_is_what_the_bank_multiplies_by(quantized, rank):
    for bank in banks(make(quantized, rank, gated=True)):
        dim = stored_kernel(bank).shape[1]
        # A row of the identity is quantised without a loss.
        unit = np.broadcast_to(np.eye(dim), (1, EXPERTS, dim, dim))
        np.testing.assert_allclose(
            merged_kernel(bank), bank(unit)[0], rtol=1e-5, atol=1e-6
        )


def test_the_merged_kernel_of_a_dense_layer():
    dense = keras.layers.Dense(7)
    dense.build((None, DIM))
    dense.quantize("int8")
    np.testing.assert_allclose(
        merged_kernel(dense), dense(np.eye(DIM)), rtol=1e-5, atol=1e-6
    )


def test_other_quantizations_are_refused():
    dense = keras.layers.Dense(8)
    dense.build((None, 8))
    dense.quantize("int4")
    with pytest.raises(ValueError, match="int8.*int4"):
        merged_kernel(dense)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_one_expert_computes_what_it_did(use_bias, gated, rank):
    experts = make(rank=rank, use_bias=use_bias, gated=gated, activation="gelu")
    x = data()
    for number in (0, 3):
        dense = merge_experts(experts, number, name="student")
        assert dense.built and dense.name == "student"
        assert len(dense.weights) == (2 + gated) * (1 + use_bias)
        np.testing.assert_allclose(
            dense(x), of_expert(experts, number, x), rtol=1e-5, atol=1e-5
        )


def test_an_int8_expert_becomes_a_float_network():
    experts = make(quantized=True, use_bias=True)
    x = data()
    dense = merge_experts(experts, 2)
    assert {w.dtype for w in dense.weights} == {"float32"}
    exact = of_expert(experts, 2, x)
    # Left over is the rounding of the activations, half a step in 127.
    error = np.abs(np.asarray(dense(x)) - exact).max()
    assert error < 0.02 * np.abs(exact).max()


def test_equal_experts_average_to_each():
    experts = make(use_bias=True)
    for weight in experts.weights:
        weight.assign(np.broadcast_to(weight[:1], weight.shape))
    x = data()
    np.testing.assert_allclose(
        merge_experts(experts)(x), of_expert(experts, 1, x), atol=1e-6
    )


def test_the_average_is_of_every_weight():
    experts = make(use_bias=True)
    inner = [experts.inner.kernel, experts.inner.bias]
    dense = merge_experts(experts, "average")
    np.testing.assert_allclose(
        dense.inner.kernel, np.mean(inner[0], axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
        dense.inner.bias, np.mean(inner[1], axis=(0, 1)), atol=1e-6
    )
    load = np.array([0.5, 0.0, 0.25, 0.25], "float32")
    dense = merge_experts(experts, "weighted_average", load)
    k = np.asarray(experts.outer.kernel)
    np.testing.assert_allclose(
        dense.outer.kernel, 0.5 * k[0] + 0.25 * (k[2] + k[3]), atol=1e-6
    )


def test_the_most_used_expert():
    experts = make()
    x = data()
    dense = merge_experts(experts, "most_used", np.array([0.1, 0.2, 0.6, 0.1]))
    np.testing.assert_allclose(dense(x), of_expert(experts, 2, x), atol=1e-5)


def test_the_policy_is_kept():
    dense = merge_experts(make(dtype="mixed_bfloat16"), 0)
    assert dense.dtype_policy.name == "mixed_bfloat16"
    assert {w.dtype for w in dense.weights} == {"float32"}


@pytest.mark.parametrize("load", [None, np.zeros(EXPERTS)])
@pytest.mark.parametrize("expert", ["most_used", "weighted_average"])
def test_without_a_load_nobody_is_most_used(expert, load):
    with pytest.raises(ValueError, match=f"{expert}.*call the layer on data"):
        merge_experts(make(), expert, load)


@pytest.mark.parametrize("expert", [-1, EXPERTS, "least_used", True, None])
def test_there_is_no_such_expert(expert):
    with pytest.raises(ValueError, match="`expert` must be .* Received"):
        merge_experts(make(), expert)


def test_an_unbuilt_bank_has_no_experts():
    with pytest.raises(ValueError, match="must be built"):
        merge_experts(layers.Experts(2, 3), 0)


def test_the_layer_gives_one_dense_network():
    layer = layers.SparseMoE(
        EXPERTS, HIDDEN, use_bias=True, kernel_initializer="glorot_normal"
    )
    with pytest.raises(ValueError, match="must be built"):
        layer.to_feed_forward()
    layer.build((None, None, DIM))
    with pytest.raises(ValueError, match="call the layer on data"):
        layer.to_feed_forward("most_used")
    x = data()
    # All tokens to one expert.
    layer.router.kernel.assign(np.zeros((DIM, EXPERTS)))
    layer(x)
    np.testing.assert_array_equal(
        layer.router.expert_load.load(), np.eye(EXPERTS)[0]
    )
    # Ties go to the lowest expert, and four equal gates are a quarter each.
    for expert in ("most_used", "weighted_average", 0):
        dense = layer.to_feed_forward(expert, name="student")
        assert dense.name == "student"
        np.testing.assert_allclose(dense(x) / 4, layer(x), atol=1e-6)
    average = layer.to_feed_forward()
    np.testing.assert_allclose(
        average.inner.kernel,
        np.mean(layer.experts.inner.kernel, axis=0),
        atol=1e-6,
    )
