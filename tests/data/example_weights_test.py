"""Weights on their way from a column to `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import data

X = np.arange(12, dtype="float32").reshape(6, 2)
Y = np.array([0, 1, 0, 1, 1, 0])
W = np.array([0.5, 2.0, 1.0, 0.0, 3.0, 1.5], "float32")


def batches(weights, size=3, before=None):
    parts = ({"x": X, "example_weight": weights}, Y)
    if before is not None:
        parts = (*parts, before)
    return tf.data.Dataset.from_tensor_slices(parts).batch(size)


def weights_of(dataset):
    return np.concatenate([w.numpy() for _, _, w in dataset])


def test_the_column_becomes_weights():
    found = data.with_example_weights(batches(W))
    assert sorted(found.element_spec[0]) == ["x"]
    np.testing.assert_array_equal(weights_of(found), W)


def test_a_column_of_columns_and_weights_before():
    column = W.astype("float64")[:, np.newaxis]
    found = data.with_example_weights(batches(column, before=W + 1))
    np.testing.assert_allclose(weights_of(found), W * (W + 1))
    tokens = np.tile((W + 1)[:, np.newaxis], [1, 4])
    found = data.with_example_weights(batches(W, before=tokens))
    np.testing.assert_allclose(weights_of(found), W[:, np.newaxis] * tokens)


def test_a_model_learns_as_from_sample_weight():
    def fitted(*args, **options):
        keras.utils.set_random_seed(0)
        inputs = {"x": keras.Input([2], name="x")}
        outputs = keras.layers.Dense(1, kernel_initializer="ones")(inputs["x"])
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.fit(*args, shuffle=False, verbose=0, **options)
        return model.get_weights()

    column = fitted(data.with_example_weights(batches(W)))
    plain = fitted({"x": X}, Y, sample_weight=W, batch_size=3)
    for one, other in zip(column, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_that_are_none(bad):
    weights = W.copy()
    weights[4] = bad
    found = data.with_example_weights(batches(weights))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="must be numbers of at least 0"
    ):
        weights_of(found)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("tokens", [(), (4,)])
def test_weights_before_that_are_none(bad, tokens):
    before = np.ones((6, *tokens), "float32")
    before[4] = bad
    # Neither a 0 nor another negative one hides it.
    column = np.array([1.0, 1.0, 1.0, 2.0, 0.0, 1.0])
    found = data.with_example_weights(batches(column, before=before))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="must be numbers of at least 0"
    ):
        weights_of(found)


def test_a_product_that_is_no_weight():
    half = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="must not be 0 for all"
    ):
        weights_of(data.with_example_weights(batches(half, before=1 - half)))
    large = np.full(6, 1e30)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="must be numbers of at least 0"
    ):
        weights_of(data.with_example_weights(batches(large, before=large)))


def test_weights_that_are_all_zero():
    found = data.with_example_weights(batches(np.zeros(6)))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="must not be 0 for all"
    ):
        weights_of(found)


def test_a_column_that_is_missing():
    with pytest.raises(ValueError, match="with 'weight' among the inputs"):
        data.with_example_weights(batches(W), name="weight")
    without = tf.data.Dataset.from_tensor_slices({"example_weight": W})
    with pytest.raises(ValueError, match="must give pairs of inputs and lab"):
        data.with_example_weights(without.batch(2))
