"""Derivatives outside of a training step."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_moe.types import Tensor


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns the gradient of a function's sum, of the shape of `x`.

    Args:
        function: of a tensor like `x`; differentiable.
        x: floating point.

    Raises:
        RuntimeError: on a backend other than TensorFlow.
    """
    _refuse_to_differentiate()
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        total = keras.ops.sum(function(x))
    found = tape.gradient(total, x)
    return tf.zeros_like(x) if found is None else found


def jacobian(model: keras.Model, x: Any) -> list[np.ndarray]:
    """Returns the derivatives of a model's outputs by its trainable weights.

    Args:
        model: of one output `[n, outputs]`; run as in inference.
        x: its inputs for n examples.

    Returns:
        For each weight, float32 `[n, outputs, size]`.

    Raises:
        RuntimeError: on a backend other than TensorFlow.
    """
    _refuse_to_differentiate()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(x, training=False)
    found = tape.jacobian(
        outputs,
        [variable.value for variable in model.trainable_variables],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    # Derivatives by a table that is looked up may be sparse.
    whole = [np.asarray(tf.convert_to_tensor(each)) for each in found]
    return [
        each.astype("float32").reshape([*each.shape[:2], -1]) for each in whole
    ]


def _refuse_to_differentiate() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Derivatives are taken on the TensorFlow backend alone. "
            f"Received: {keras.backend.backend()!r}."
        )
