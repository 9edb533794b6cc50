"""Batches that are looked at on their way into a training."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.training._unshifted_targets import watch_targets


def watch_batches(
    x: Any, y: Any, pad_id: int | None, sample_weight: Any = None
) -> Any:
    """Refuses weights that are none; warns of targets that were not shifted.

    A negative weight drives a model away from its labels, and one that is no
    number ruins it, both without an error.

    Args:
        x: as `fit` takes it; or a function from an epoch to a data set, as
            `Trainer.fit` takes it.
        y: as `fit` takes it.
        pad_id: the id of padding; `None` if there is none.
        sample_weight: as `fit` takes it.

    Returns:
        `x`, or what to train on in its place: a data set then stops at a batch
        of such weights.

    Raises:
        ValueError: if a weight is negative or no number, or all are 0.
    """
    if callable(x) and not isinstance(x, keras.utils.PyDataset):
        return lambda epoch: watch_batches(x(epoch), None, pad_id)
    if isinstance(x, keras.utils.PyDataset):
        sample_weight = keras.utils.unpack_x_y_sample_weight(x[0])[2]
    if sample_weight is not None:
        check_weights(sample_weight)
    x = watch_targets(x, y, pad_id)
    return _watched(x) if isinstance(x, tf.data.Dataset) else x


def check_weights(weights: Any) -> None:
    """Raises `ValueError` unless weights are at least 0, and some above it."""
    values = np.asarray(weights, "float64")
    wrong = ~(np.isfinite(values) & (values >= 0.0))
    if wrong.any():
        raise ValueError(
            "Weights of examples must be numbers of at least 0. Received: "
            f"{values[wrong][0]} at {np.argwhere(wrong)[0].tolist()}."
        )
    if values.size and not values.any():
        raise ValueError(
            "Weights of examples must not all be 0: nothing would be learned. "
            f"Received: {values.size} zeros."
        )


def assert_weights(weights: tf.Tensor) -> tf.Tensor:
    """Returns weights; stops where one is negative or no number."""
    wrong = ~(tf.math.is_finite(weights) & (weights >= 0))
    message = "Weights of examples must be numbers of at least 0. Received:"
    check = tf.debugging.Assert(
        ~tf.reduce_any(wrong), [message, tf.boolean_mask(weights, wrong)]
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(weights)


def _watched(data: tf.data.Dataset) -> tf.data.Dataset:
    spec = data.element_spec
    # Ragged and sparse weights are Keras's to refuse.
    if not (
        isinstance(spec, tuple)
        and len(spec) == 3
        and isinstance(spec[2], tf.TensorSpec)
        and (spec[2].dtype.is_floating or spec[2].dtype.is_integer)
    ):
        return data

    def watched(x: Any, y: Any, weights: tf.Tensor) -> tuple:
        as_floats = assert_weights(tf.cast(weights, tf.float32))
        with tf.control_dependencies([as_floats]):
            return x, y, tf.identity(weights)

    return data.map(watched)
