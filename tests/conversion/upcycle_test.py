"""Experts that start as copies of a dense network."""

import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.conversion import upcycle
from keras_moe.weights import named_weights
from tests.conversion.upcycle_case import DIM
from tests.conversion.upcycle_case import HIDDEN
from tests.conversion.upcycle_case import assert_equal_outputs
from tests.conversion.upcycle_case import data
from tests.conversion.upcycle_case import pair
from tests.conversion.upcycle_case import sparse_layers
from tests.conversion.upcycle_case import stack
from tests.covering import covering


@pytest.mark.parametrize(
    ("settings", "dispatch"),
    covering(
        [
            None,
            {"num_selected_experts": 1},
            {"num_selected_experts": 1, "normalization": "after_drop"},
            {"num_selected_experts": 2, "normalization": "after_drop"},
            {"num_selected_experts": 3, "eval_capacity_factor": 4.0},
            {"priority": "token_major", "kernel_initializer": "glorot_normal"},
        ],
        ["gather", "einsum", "ragged"],
        strength=1,
    ),
)
def test_the_first_outputs_are_the_dense_models(settings, dispatch):
    router = None
    if settings is not None:
        router = layers.TopKRouter(
            **{"normalization": "before_drop", **settings}
        )
    dense = stack(dropout=0.1)
    sparse = upcycle(dense, 4, router, moe_every=1, dispatch=dispatch)
    assert len(sparse_layers(sparse)) == 2
    assert_equal_outputs(sparse, dense, data(3, 7))


@pytest.mark.parametrize(
    ("num_experts", "activation", "use_bias"),
    covering(
        [1, 2, 5],
        ["relu", "tanh"],
        [(True, True), (False, False), (True, False), (False, True)],
    ),
)
def test_biases_and_activations_come_along(num_experts, activation, use_bias):
    dense = stack(activation=activation, use_bias=use_bias)
    sparse = upcycle(dense, num_experts)
    assert_equal_outputs(sparse, dense, data(2, 5))


def test_each_expert_is_a_copy():
    dense = stack()
    sparse = upcycle(dense, 3)
    experts = sparse.get_layer("ffn_1").experts
    for name, bank in (("ffn_1_in", experts.inner), ("ffn_1", experts.outer)):
        layer = dense.get_layer(name)
        for expert in range(3):
            np.testing.assert_array_equal(bank.kernel[expert], layer.kernel)
            np.testing.assert_array_equal(bank.bias[expert, 0], layer.bias)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_feed_forward_layers(gated, use_bias):
    def make():
        return layers.FeedForward(
            HIDDEN,
            activation="silu",
            gated=gated,
            use_bias=use_bias,
            bias_initializer="normal",
            dropout_rate=0.2,
            name="ffn",
        )

    inputs = keras.Input((None, DIM))
    dense = keras.Model(inputs, make()(inputs))
    sparse = upcycle(dense, 4)
    (layer,) = sparse_layers(sparse)
    assert layer.name == "ffn"
    assert layer.experts.dropout_rate == 0.2
    assert_equal_outputs(sparse, dense, data(2, 5))


def test_the_dense_model_is_not_touched():
    dense = stack()
    before = [np.asarray(w) for w in dense.weights]
    sparse = upcycle(dense, 2, moe_every=1, noise=0.1)
    owned = {id(w) for w in dense.weights}
    assert not any(id(w) in owned for w in sparse.weights)
    for weight in sparse.weights:
        weight.assign(np.zeros(weight.shape))
    for weight, value in zip(dense.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    ("depth", "kwargs", "expected"),
    [
        (5, {}, [1, 3]),
        (5, {"moe_every": 1}, [0, 1, 2, 3, 4]),
        (5, {"moe_every": 3}, [2]),
        (1, {}, [0]),
        (2, {"moe_every": 4}, [1]),
        (3, {"blocks": [0]}, [0]),
        (3, {"blocks": [2, "ffn_0"]}, [0, 2]),
        (3, {"blocks": [("ffn_1_in", "ffn_1"), "ffn_1"]}, [1]),
    ],
)
def test_which_become_sparse(depth, kwargs, expected):
    sparse = upcycle(stack(depth), 2, **kwargs)
    names = [f"ffn_{index}" for index in expected]
    assert [layer.name for layer in sparse_layers(sparse)] == names


def test_doubtful_pairs_can_be_named():
    dense = stack(activation=None)
    with pytest.raises(ValueError, match="ffn_0: there is no activation"):
        upcycle(dense, 2)
    sparse = upcycle(dense, 2, blocks=["ffn_0", ("ffn_1_in", "ffn_1")])
    assert len(sparse_layers(sparse)) == 2
    assert_equal_outputs(sparse, dense, data(2, 3))


def test_nested_networks_can_be_named_briefly():
    inner = stack(1)
    inputs = keras.Input((None, DIM))
    dense = keras.Model(inputs, pair(inner(inputs), "outer"))
    for name in ("stack/ffn_0", "ffn_0"):
        _, report = upcycle(dense, 2, blocks=[name], return_report=True)
        assert report.merged == tuple(
            f"stack/ffn_0/experts/{part}/{kind}"
            for part in ("wi", "wo")
            for kind in ("kernel", "bias")
        )


def test_every_weight_is_counted():
    dense = stack(4, use_bias=(True, False))
    sparse, report = upcycle(dense, 3, return_report=True)
    named = named_weights(sparse)
    groups = [*report.copied, *report.merged, *report.fresh]
    assert len(set(groups)) == len(groups)
    assert {id(named[name]) for name in groups} == {
        id(w) for w in sparse.weights
    }
    # Of each half: two kernels and a bias.
    assert len(report.copied) == len(report.merged) == 6
    # And a router, and zeros for the bias that was not there.
    assert report.fresh == (
        "ffn_1/router/kernel",
        "ffn_1/experts/wo/bias",
        "ffn_3/router/kernel",
        "ffn_3/experts/wo/bias",
    )
    assert not np.any(named["ffn_3/experts/wo/bias"])
    assert report.unused == ()
    assert "merged: 6: ffn_1/experts/wi/kernel" in str(report)


def test_counted_names_move_up_where_layers_vanish():
    x = inputs = keras.Input((None, DIM))
    for size, activation in ((HIDDEN, "relu"), (DIM, None), (DIM, "tanh")):
        x = keras.layers.Dense(size, activation, bias_initializer="normal")(x)
    dense = keras.Model(inputs, x)
    sparse, report = upcycle(dense, 3, return_report=True)
    # The third layer of the dense model is the only one that is left.
    assert report.copied == ("dense/kernel", "dense/bias")
    np.testing.assert_array_equal(
        named_weights(sparse)["dense/kernel"],
        named_weights(dense)["dense#2/kernel"],
    )
    assert_equal_outputs(sparse, dense, data(2, 3))


def test_noise_tells_experts_apart():
    dense = stack(1)
    sparse = upcycle(dense, 64, noise=0.25, seed=1)
    kernel = np.asarray(sparse.get_layer("ffn_0").experts.inner.kernel)
    exact = np.asarray(dense.get_layer("ffn_0_in").kernel)
    noise = kernel - exact
    assert noise.std() == pytest.approx(0.25 * exact.std(), rel=0.05)
    assert abs(noise.mean()) < 0.02 * exact.std()
    again = upcycle(dense, 64, noise=0.25, seed=1)
    np.testing.assert_array_equal(
        kernel, again.get_layer("ffn_0").experts.inner.kernel
    )
    np.testing.assert_array_equal(
        sparse.get_layer("ffn_0").experts.inner.bias[7, 0],
        dense.get_layer("ffn_0_in").bias,
    )


def test_one_router_for_each_layer():
    calls = []

    def factory(name):
        calls.append(name)
        if name == "ffn_0":
            return layers.ExpertChoiceRouter()
        return "switch"

    sparse = upcycle(stack(), 4, factory, moe_every=1)
    assert calls == ["ffn_0", "ffn_1"]
    assert [type(layer.router) for layer in sparse_layers(sparse)] == [
        layers.ExpertChoiceRouter,
        layers.SwitchRouter,
    ]
    for router in (layers.SwitchRouter, layers.SwitchRouter(jitter_noise=0.2)):
        sparse = upcycle(stack(), 4, router, moe_every=1)
        first, second = (layer.router for layer in sparse_layers(sparse))
        assert first is not second
        assert isinstance(second, layers.SwitchRouter)


def test_switch_gates_scale_the_output():
    inputs = keras.Input((None, DIM))
    dense = keras.Model(inputs, pair(inputs, "ffn"))
    sparse = upcycle(dense, 4, "switch")
    x = data(2, 5)
    plan = sparse.get_layer("ffn").router(x)
    gate = np.max(plan.probabilities, axis=-1, keepdims=True)
    np.testing.assert_allclose(sparse(x), gate * dense(x), atol=1e-5)


def test_it_trains_and_saves(tmp_path, run_eagerly):
    dense = stack()
    dense.compile("adam", "mse", run_eagerly=run_eagerly)
    sparse = upcycle(dense, 4)
    assert sparse.compiled
    assert sparse.optimizer is not dense.optimizer
    x = data(16, 5)
    before = [np.asarray(w) for w in sparse.get_layer("ffn_1").weights]
    sparse.fit(x, 2 * x, verbose=0)
    after = [np.asarray(w) for w in sparse.get_layer("ffn_1").weights]
    assert not any(
        np.allclose(*both) for both in zip(before, after, strict=True)
    )
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), sparse(x), atol=1e-6)


def test_policy_and_trainability_are_kept():
    inputs = keras.Input((None, DIM))
    x = layers.FeedForward(HIDDEN, dtype="mixed_bfloat16", name="ffn")(inputs)
    dense = keras.Model(inputs, x)
    dense.get_layer("ffn").trainable = False
    model = upcycle(dense, 2)
    assert model.trainable_weights == []
    layer = model.get_layer("ffn")
    assert layer.dtype_policy.name == "mixed_bfloat16"
    assert layer.router.dtype_policy.name == "float32"
    assert not layer.trainable


def test_lora_is_merged():
    dense = stack(1)
    for name in ("ffn_0_in", "ffn_0"):
        layer = dense.get_layer(name)
        layer.enable_lora(2)
        factor = layer.lora_kernel_b
        factor.assign(np.random.normal(size=factor.shape))
    assert_equal_outputs(upcycle(dense, 3), dense, data(2, 5))
