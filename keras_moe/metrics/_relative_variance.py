"""A running mean that speaks up."""

import warnings

import keras

from keras_moe.serialization import register
from keras_moe.types import Tensor

NOISE = 1.0


@register
class RelativeVariance(keras.metrics.Mean):
    """Predicted relative variance of random features.

    Warns where its result is read outside of a graph (`fit` does so at the end
    of each epoch) and is above 1: the estimates are then mostly noise.

    Example:

    >>> metric = keras_moe.metrics.RelativeVariance()
    >>> metric.update_state(0.25)
    >>> float(metric.result())
    0.25
    """

    def result(self) -> Tensor:
        """Returns the mean."""
        value = super().result()
        if _is_known(value) and float(value) > NOISE:
            warnings.warn(
                f"{self.name} is {float(value):.3g}: above {NOISE:g}, random "
                "features approximate softmax attention badly. More features "
                "(`num_random_features`), smaller queries and keys (such as a "
                "normalisation), or exact attention (`exact_below`) help.",
                stacklevel=2,
            )
        return value


def _is_known(value: Tensor) -> bool:
    """Whether a number is there, not a node of a graph that is being traced."""
    if keras.backend.backend() == "tensorflow":
        return hasattr(value, "numpy")
    try:
        return float(value) is not None
    except TypeError:
        return False
