import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training._gradient_accumulator import GradientAccumulator


@pytest.fixture
def variables():
    return [keras.Variable(np.ones((3, 2), "float32")) for _ in range(2)]


@pytest.fixture
def accumulator(variables):
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(variables)
    strategy = tf.distribute.get_strategy()
    return GradientAccumulator(strategy, optimizer, variables)


def test_one_update_takes_the_mean(accumulator, variables):
    for value in (1.0, 5.0):
        gradient = tf.fill([3, 2], value)
        accumulator.apply([gradient, 2 * gradient], variables)
    np.testing.assert_array_equal(variables[0], np.ones((3, 2)))
    accumulator.apply_mean(tf.constant(2))
    np.testing.assert_array_equal(variables[0], np.full((3, 2), 1 - 3.0))
    np.testing.assert_array_equal(variables[1], np.full((3, 2), 1 - 6.0))
    # The real optimizer counts updates.
    assert int(np.asarray(accumulator.iterations)) == 1
    accumulator.reset()
    for total in accumulator.sums:
        np.testing.assert_array_equal(total, np.zeros((3, 2)))


def test_gradients_of_embeddings_are_rows(accumulator, variables):
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), [3, 2])
    accumulator.apply_gradients(
        zip([rows, tf.zeros([3, 2])], variables, strict=True)
    )
    np.testing.assert_array_equal(accumulator.sums[0], [[0, 0], [2, 2], [0, 0]])


def test_a_variable_without_a_gradient_stays(accumulator, variables):
    accumulator.apply([tf.ones([3, 2]), None])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        accumulator.apply_mean(tf.constant(1))
    np.testing.assert_array_equal(variables[0], np.zeros((3, 2)))
    np.testing.assert_array_equal(variables[1], np.ones((3, 2)))


def test_other_variables_are_refused(accumulator, variables):
    with pytest.raises(ValueError, match="must apply gradients to `model.trai"):
        accumulator.apply([tf.ones([3, 2])] * 2, variables[::-1])
    for total in accumulator.sums:
        np.testing.assert_array_equal(total, np.zeros((3, 2)))
