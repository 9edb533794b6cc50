"""Any loss of Keras, with weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.keras_internals import get_mask
from keras_moe.keras_internals import set_mask
from keras_moe.losses import token_crossentropy
from keras_moe.losses._weighted_loss import weighted_loss

Crossentropy = keras.losses.SparseCategoricalCrossentropy


def by_value(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(
        y_true, y_pred, from_logits=True
    )


def of_the_batch(y_true, y_pred):
    return keras.ops.mean(by_value(y_true, y_pred))


def weights_of(kind):
    shape = {"example": (3,), "column": (3, 1), "token": (3, 4)}.get(kind)
    if shape is None:
        return None
    return np.random.uniform(0, 2, shape).astype("float32")


def batch(masked):
    labels = np.random.randint(0, 5, (3, 4))
    logits = tf.random.normal((3, 4, 5))
    if masked:
        lengths = np.array([[4], [2], [1]])
        set_mask(logits, tf.constant(np.arange(4) < lengths))
    return labels, logits


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [None, "column", "token"])
def test_weighs_values_as_keras_does(kind, masked):
    labels, logits = batch(masked)
    weights = weights_of(kind)
    expected = Crossentropy(from_logits=True)(labels, logits, weights)
    instance = Crossentropy(from_logits=True)
    for loss in (by_value, instance, keras.losses.serialize(instance)):
        received = weighted_loss(loss)(labels, logits, weights)
        np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [None, "column", "token"])
@pytest.mark.parametrize(
    "name", ["sparse_categorical_crossentropy", "mse", "mean_absolute_error"]
)
def test_names_mean_what_they_mean_to_compile(name, kind, masked):
    labels, outputs = batch(masked)
    if name == "sparse_categorical_crossentropy":
        probabilities = tf.nn.softmax(outputs)
    else:
        labels = np.random.normal(size=(3, 4, 5)).astype("float32")
        probabilities = outputs * 2
    if masked:
        set_mask(probabilities, get_mask(outputs))
    weights = weights_of(kind)
    inputs = keras.Input((4, 5))
    model = keras.Model(inputs, inputs * 1)
    model.compile(loss=name)
    np.testing.assert_allclose(
        weighted_loss(name)(labels, probabilities, weights),
        model.compute_loss(
            y=labels, y_pred=probabilities, sample_weight=weights
        ),
        rtol=1e-5,
    )


@pytest.mark.parametrize("masked", [False, True])
def test_values_may_be_weighed_by_example(masked):
    # Keras's `fit` adds the axis, its losses do not.
    labels, logits = batch(masked)
    weights = weights_of("example")
    expected = Crossentropy(from_logits=True)(labels, logits, weights[:, None])
    received = weighted_loss(by_value)(labels, logits, weights)
    np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_an_instance_keeps_its_reduction(reduction):
    labels, logits = batch(masked=False)
    loss = Crossentropy(from_logits=True, reduction=reduction)
    weights = weights_of("token")
    cost = np.asarray(by_value(labels, logits)) * weights
    expected = {
        "sum": cost.sum(),
        "mean_with_sample_weight": cost.sum() / weights.sum(),
    }[reduction]
    received = weighted_loss(loss)(labels, logits, weights)
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_a_function_with_the_argument_is_given_the_weights():
    labels, logits = batch(masked=False)
    labels[:, -1] = 0  # padding
    weights = weights_of("example")
    received = weighted_loss(token_crossentropy)(labels, logits, weights)
    cost = np.asarray(by_value(labels, logits)) * weights[:, None]
    real = labels != 0
    np.testing.assert_allclose(received, cost[real].sum() / real.sum(), 1e-5)
    np.testing.assert_array_equal(
        weighted_loss(token_crossentropy)(labels, logits, None),
        token_crossentropy(labels, logits),
    )


def test_the_argument_is_left_out_without_weights():
    given = []

    def loss(y_true, y_pred, sample_weight="default"):
        given.append(sample_weight)
        return keras.ops.zeros(())

    weighted_loss(loss)(*batch(masked=False), None)
    weighted_loss(loss)(*batch(masked=False), "weights")
    assert given == ["default", "weights"]


def test_one_value_for_the_batch_cannot_be_weighed():
    labels, logits = batch(masked=False)
    weighted = weighted_loss(of_the_batch)
    np.testing.assert_array_equal(
        weighted(labels, logits, None), of_the_batch(labels, logits)
    )
    with pytest.raises(ValueError, match="cannot weigh.*of_the_batch"):
        weighted(labels, logits, np.ones(3))


@pytest.mark.parametrize(
    ("loss", "message"),
    [(None, "must be given a `loss`.*None"), ("msee", "msee")],
)
def test_there_must_be_a_loss(loss, message):
    with pytest.raises(ValueError, match=message):
        weighted_loss(loss)
