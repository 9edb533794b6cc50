"""What `keras.remat` would spoil in silence refuses to be recomputed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers


def sparse(router):
    return layers.SparseMoE(4, 8, router=router, name="moe")


LAYERS = {
    "switch": sparse("switch"),
    "bias_balanced": sparse(layers.BiasBalancedRouter()),
    "fixed": sparse(layers.LocalityHashRouter()),
    "random_features": layers.RandomFeatureAttention(2, 4, 8),
    "layer_dropout": layers.LayerDropout(0.5),
    "selection": layers.SequentialAttention(2, total_steps=9),
}
TWO_INPUTS = ("random_features", "layer_dropout")
X = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")


def call_of(name, training=True):
    layer = LAYERS[name]
    if name in TWO_INPUTS:
        return lambda x: layer(x, 2.0 * x, training=training)
    return lambda x: layer(x, training=training)


def gradient(call):
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
        loss = tf.reduce_sum(y * y)
    return tape.gradient(loss, x)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_refuses_before_anything_moves(name, compiled):
    call = call_of(name)
    call(X)
    layer = LAYERS[name]
    before = [np.array(v) for v in layer.non_trainable_variables]
    metrics = [np.array(v) for v in layer.metrics_variables]

    def step():
        return gradient(keras.remat(call))

    with pytest.raises(RuntimeError, match="cannot be trained within `keras"):
        tf.function(step, autograph=False)() if compiled else step()
    for old, now in zip(before, layer.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, now)
    for old, now in zip(metrics, layer.metrics_variables, strict=True):
        np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize("name", ["bias_balanced", "random_features"])
def test_may_be_recomputed_out_of_training(name):
    call = call_of(name, training=False)
    call(X)
    expected = gradient(call)
    np.testing.assert_allclose(
        gradient(keras.remat(call)), expected, rtol=1e-4, atol=1e-6
    )


def test_a_remat_scope_refuses_too():
    with keras.RematScope("full"):
        layer = sparse("switch")
        with pytest.raises(RuntimeError, match="Recompute only layers around"):
            layer(X, training=True)


def test_layers_around_may_be_recomputed():
    layer = LAYERS["switch"]
    around = keras.remat(lambda x: tf.tanh(x))
    with tf.GradientTape() as tape:
        layer(around(tf.constant(X)), training=True)
        loss = sum(layer.losses)
    assert np.any(tape.gradient(loss, layer.router.kernel.value))
