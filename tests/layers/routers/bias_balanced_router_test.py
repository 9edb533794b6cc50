import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make


def built(num_experts=4, dim=DIM, **kwargs):
    kwargs = {"kernel_initializer": "glorot_normal", **kwargs}
    router = layers.BiasBalancedRouter(num_experts, jitter_noise=0.0, **kwargs)
    router.build((None, None, dim))
    return router


def load(plan, num_experts=4):
    index = np.asarray(plan.expert_index).ravel()
    return np.bincount(index, minlength=num_experts + 1)[:num_experts]


def test_the_bias_moves_against_the_load():
    router = built(bias_update_rate=0.125)
    bias = np.zeros(4)
    for _ in range(5):
        plan = router(data(1, 40), training=True)
        count = load(plan)
        assert count.sum() == 80
        bias -= 0.125 * np.sign(count - count.mean())
        np.testing.assert_allclose(router.expert_bias, bias, atol=1e-6)
    assert np.any(bias)


def test_padding_is_no_load():
    router = built(bias_update_rate=1.0, num_selected_experts=1)
    router.kernel.assign(np.eye(DIM)[:, :4])
    x = np.zeros((1, 12, DIM), "float32")
    x[0, :3, 0] = x[0, 3:5, 1] = x[0, 5:6, 2] = x[0, 6:, 3] = 1.0
    mask = np.arange(12)[None] < 6  # loads 3, 2, 1, 0
    router(x, padding_mask=mask, training=True)
    np.testing.assert_array_equal(router.expert_bias, [-1.0, -1.0, 1.0, 1.0])


def test_dropped_tokens_are_load():
    router = built(
        bias_update_rate=1.0,
        num_selected_experts=1,
        capacity_factor=0.1,
        min_expert_capacity=1,
    )
    router.kernel.assign(np.eye(DIM)[:, :4])
    x = np.zeros((1, 8, DIM), "float32")
    x[0, :5, 0] = x[0, 5:6, 1] = x[0, 6:7, 2] = x[0, 7:, 3] = 1.0
    router(x, training=True)
    np.testing.assert_array_equal(router.expert_bias, [-1.0, 1.0, 1.0, 1.0])


def test_evaluation_leaves_it_alone():
    router = built(bias_update_rate=0.5)
    router.expert_bias.assign([0.1, -0.2, 0.3, 0.0])
    for training in (False, None):
        router(data(1, 30), training=training)
    np.testing.assert_allclose(router.expert_bias, [0.1, -0.2, 0.3, 0.0])


def test_frozen_means_still():
    router = layers.BiasBalancedRouter(bias_update_rate=0.5)
    layer = layers.SparseMoE(4, 8, router=router)
    layer(data(1, 30))
    layer.trainable = False
    layer(data(1, 30), training=True)
    assert not np.any(router.expert_bias)
    layer.trainable = True
    layer(data(1, 30), training=True)
    assert np.any(router.expert_bias)


def test_a_batch_of_nan_leaves_it_alone():
    router = built(bias_update_rate=0.5)
    router(np.full((1, 30, DIM), np.nan, "float32"), training=True)
    assert not np.any(router.expert_bias)


def test_gates_do_not_contain_the_bias():
    router = built(num_selected_experts=2, normalization="none")
    inputs = data(1, 20)
    router.expert_bias.assign([5.0, 0.0, 0.0, 4.0])
    plan = router(inputs)
    np.testing.assert_array_equal(
        np.sort(plan.expert_index), np.tile([0, 3], (1, 20, 1))
    )
    p = np.exp(inputs @ router.kernel.numpy())
    p /= p.sum(-1, keepdims=True)
    np.testing.assert_allclose(plan.probabilities, p, rtol=1e-5)
    combine = np.asarray(plan.combine_array()).sum(-1)
    np.testing.assert_allclose(combine[..., [0, 3]], p[..., [0, 3]], rtol=1e-5)


def test_it_is_no_parameter_of_the_optimiser():
    layer = make(4, router=layers.BiasBalancedRouter(bias_update_rate=0.25))
    bias = layer.router.expert_bias
    assert all(w is not bias for w in layer.trainable_weights)
    assert any(w is bias for w in layer.non_trainable_weights)
    assert bias.dtype == "float32"
    with tf.GradientTape() as tape:
        tape.watch(bias.value)
        loss = tf.reduce_sum(layer(data(1, 9), training=True) ** 2)
    assert tape.gradient(loss, bias.value) is None


def skewed(groups=1, tokens=256):
    """Tokens that mostly look alike: an untrained router crowds them."""
    x = np.random.normal(size=(groups, tokens, DIM)) * 0.5
    x[..., 0] += 2.0
    return x.astype("float32")


def test_training_evens_the_load_without_a_loss():
    router = built(8, bias_update_rate=0.02, capacity_factor=None)

    def variation():
        count = load(router(skewed(tokens=2048)), 8)
        return count.std() / count.mean()

    before = variation()
    step = tf.function(
        lambda x: router(x, training=True).token_index, autograph=False
    )
    for _ in range(120):
        step(tf.constant(skewed()))
    after = variation()
    assert before > 0.5 and after < 0.4 * before


def test_the_bias_moves_under_xla():
    router = built(bias_update_rate=0.125)
    route = tf.function(
        lambda x: router(x, training=True).token_index,
        jit_compile=True,
        autograph=False,
    )
    route(tf.constant(skewed()))
    assert np.any(router.expert_bias)
    assert set(np.abs(router.expert_bias)) <= {0.0, 0.125}


def test_fit_moves_the_bias():
    inputs = keras.Input((None, DIM))
    router = layers.BiasBalancedRouter(bias_update_rate=0.125)
    moe = layers.SparseMoE(4, 8, router=router, name="moe")
    model = keras.Model(inputs, moe(inputs))
    # In a graph, by our trainer: training/trainer_moving_state_test.py.
    model.compile("sgd", "mse", run_eagerly=True)
    x = skewed(6, 16)
    history = model.fit(x, x, batch_size=2, verbose=0).history
    bias = router.expert_bias.numpy()
    assert np.any(bias)
    # Three batches, a step of an eighth each.
    np.testing.assert_allclose(bias * 8, np.round(bias * 8), atol=1e-5)
    assert np.abs(bias).max() <= 0.375
    assert np.all(np.isfinite(history["loss"]))
    model.evaluate(x, x, verbose=0)
    model.predict(x, verbose=0)
    np.testing.assert_array_equal(router.expert_bias, bias)


def test_saving_keeps_the_bias(tmp_path):
    inputs = keras.Input((None, DIM))
    router = layers.BiasBalancedRouter(
        bias_update_rate=0.25, num_selected_experts=3
    )
    moe = layers.SparseMoE(4, 8, router=router, name="moe")
    model = keras.Model(inputs, moe(inputs))
    moe(skewed(), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    same = loaded.get_layer("moe").router
    np.testing.assert_array_equal(same.expert_bias, router.expert_bias)
    assert same.bias_update_rate == 0.25
    assert same.num_selected_experts == 3
    x = data(2, 5)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_refuses_a_negative_rate():
    with pytest.raises(ValueError, match="bias_update_rate=-0.1"):
        layers.BiasBalancedRouter(4, bias_update_rate=-0.1)


def test_one_normalised_choice_warns():
    with pytest.warns(UserWarning, match="learns nothing from the task"):
        built(num_selected_experts=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built(num_selected_experts=1, normalization="none")
        built(1, num_selected_experts=1)  # there is nothing to learn
        built()
