"""Probabilities to rank by: equal for equal logits."""

import keras
import numpy as np
from keras import ops

from keras_moe.backend import accelerator
from keras_moe.types import Tensor


def ranking_probabilities(logits: Tensor) -> Tensor:
    """Returns the softmax `[g, s, e]` that tokens are ranked by.

    TensorFlow computes the last elements of an array by other instructions
    than the rest, so that equal rows get float32 probabilities an ulp apart:
    ties would go to the end of the array, and padding behind it would change
    who survives. In float64 the difference is lost when it is rounded. On
    TPUs, which lack float64 and compute all elements by the same instructions,
    and on JAX, which has none by default, all is float32.

    Args:
        logits: float32 `[g, s, e]`, finite.

    Returns:
        float32; without a gradient.
    """
    logits = ops.stop_gradient(logits)
    if keras.backend.backend() != "jax" and accelerator() != "TPU":
        logits = ops.cast(logits, "float64")
    # `initial` gives an empty group a maximum.
    top = ops.max(logits, axis=-1, keepdims=True, initial=-np.inf)
    logits = logits - top
    mass = ops.exp(logits)
    share = mass / ops.sum(mass, axis=-1, keepdims=True)
    return ops.cast(share, "float32")
