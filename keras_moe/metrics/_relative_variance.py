"""A running mean of variances that warns where they are too large."""

import warnings

import keras

from keras_moe.serialization import register
from keras_moe.types import Tensor

NOISE = 1.0


@register
class RelativeVariance(keras.metrics.Mean):
    """Predicted relative variance of random features.

    The metric warns if its result is above 1 (estimates are then mostly noise)
    where it is read outside of a graph, as `fit` does after each epoch.

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
    """Says whether a value is a number, not a node of a graph."""
    if keras.backend.backend() == "tensorflow":
        return hasattr(value, "numpy")
    try:
        return float(value) is not None
    except TypeError:
        return False
