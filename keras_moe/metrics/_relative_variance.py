"""A running mean of variances that warns where they are too large."""

import warnings
from collections.abc import Callable

import keras
from keras import ops

from keras_moe.serialization import register
from keras_moe.types import Tensor

# The square root is about the error of outputs over their size: a third.
NOISE = 0.1


@register
class RelativeVariance(keras.metrics.Mean):
    """Predicted relative variance of random features.

    The square root is about the error of the layer's outputs, relative to their
    size. The metric warns if its result is above 0.1, an error of a third,
    where it is read outside of a graph, as `fit` does after each epoch.

    Args:
        name: name of the metric.
        dtype: dtype of the mean.
        otherwise: gives the result where nothing was added: layers measure in
            training alone, so that no assignment enters an exported graph, and
            evaluation reads what their features are now. By default NaN.

    Example:

    >>> metric = keras_moe.metrics.RelativeVariance()
    >>> metric.update_state(0.25)
    >>> float(metric.result())
    0.25
    """

    def __init__(
        self,
        name: str = "relative_variance",
        dtype: str | None = None,
        otherwise: Callable[[], Tensor] | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self._otherwise = otherwise

    def result(self) -> Tensor:
        """Returns the mean."""
        value = float("nan") if self._otherwise is None else self._otherwise()
        value = ops.where(self.count > 0, super().result(), value)
        if _is_known(value) and float(value) > NOISE:
            warn_of_noise(self.name, float(value))
        return value


def warn_of_noise(subject: str, variance: float) -> None:
    """Warns that random features are too noisy.

    Args:
        subject: what has the variance.
        variance: the predicted relative variance, above `NOISE`.
    """
    error = f"about {variance**0.5:.0%} of their size"
    if variance >= 1.0:
        error = "more than a mean of all values would be"
    warnings.warn(
        f"{subject} is {variance:.3g}, above {NOISE:g}: outputs of random "
        f"features are wrong by {error}. More features "
        "(`num_random_features`), smaller heads, smaller queries and keys "
        "(such as a normalisation), or exact attention (`exact_below`) help.",
        stacklevel=3,
    )


def _is_known(value: Tensor) -> bool:
    """Says whether a value is a number, not a node of a graph."""
    if keras.backend.backend() == "tensorflow":
        return hasattr(value, "numpy")
    try:
        return float(value) is not None
    except TypeError:
        return False
