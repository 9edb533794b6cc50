"""The mean over tokens."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.layers import MeanPooling
from tests.layers.layer_test_case import run_layer_test


def test_as_keras_tests_layers():
    run_layer_test(
        MeanPooling,
        {},
        input_shape=(2, 5, 3),
        expected_output_shape=(2, 3),
        supports_masking=True,
    )


def test_is_the_mean_of_what_is_real():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 3)).astype("float32")
    mask = rng.random((4, 6)) < 0.5
    mask[:, 0], mask[3] = True, False
    expected = [x[row][mask[row]].mean(axis=0) for row in range(3)]
    x[~mask] = np.nan
    pooled = MeanPooling()(x, mask=mask)
    np.testing.assert_allclose(pooled[:3], expected, rtol=1e-6)
    np.testing.assert_array_equal(pooled[3], 0)
    np.testing.assert_allclose(MeanPooling()(x[:, :1]), x[:, 0])


def test_padding_spoils_no_gradient():
    """As it does behind Keras's own, where a row is all padding."""
    ids, gradients = np.array([[1, 2], [0, 0]]), {}
    for pooling in (MeanPooling(), keras.layers.GlobalAveragePooling1D()):
        embed = keras.layers.Embedding(3, 2, mask_zero=True)
        dense = keras.layers.Dense(2)
        with tf.GradientTape() as tape:
            pooled = dense(pooling(embed(ids)))
            loss = tf.reduce_sum(pooled[:1])
        gradients[type(pooling)] = tape.gradient(loss, dense.kernel).numpy()
    assert np.isfinite(gradients[MeanPooling]).all()
    assert np.isnan(gradients[keras.layers.GlobalAveragePooling1D]).all()


def test_sums_in_float32():
    x = np.ones((1, 4096, 1), "float16")
    layer = MeanPooling(dtype="float16")
    assert float(layer(x)[0, 0]) == 1.0
    mask = np.ones((1, 4096), bool)
    assert float(layer(x, mask=mask)[0, 0]) == 1.0


def test_refuses_ids():
    with pytest.raises(ValueError, match="`inputs` must be floating-point"):
        MeanPooling()(np.zeros((1, 2, 3), int))


def test_warns_of_a_mask_that_was_lost():
    x = keras.layers.Embedding(5, 2, mask_zero=True)(keras.Input((4,)))
    with pytest.warns(UserWarning, match="gets no mask"):
        MeanPooling()(x + 1.0)
