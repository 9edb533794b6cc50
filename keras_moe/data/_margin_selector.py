"""Rows between two classes."""

from collections.abc import Sequence

import numpy as np

from keras_moe.data._selector import Selector
from keras_moe.serialization import register


def hesitation(log_probabilities: np.ndarray) -> np.ndarray:
    """Returns 1 minus the margin of the two likeliest classes, float64 `[n]`.

    Args:
        log_probabilities: float64 `[n, classes]`.
    """
    probabilities = np.exp(log_probabilities)
    leaders = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.clip(1.0 - (leaders[:, 1] - leaders[:, 0]), 0.0, 1.0)


@register
class MarginSelector(Selector):
    """Keeps the rows whose two likeliest classes are closest.

    The strong simple baseline of active learning. All weights are 1: the
    sample is no picture of the pool, and a loss over it no estimate of that
    over the pool.

    Source: [Scheffer et al., 2001](https://doi.org/10.1007/3-540-44816-0_31).

    Args:
        from_logits: whether the model gives logits, or probabilities.

    Example:

    >>> model = lambda x: np.stack([x, 1.0 - x], axis=1)
    >>> pool = np.array([0.1, 0.45, 0.9, 0.6])
    >>> selector = keras_moe.data.MarginSelector()
    >>> selector.probabilities(model, pool).round(2)
    array([0.2, 0.9, 0.2, 0.8])
    >>> indices, weights = selector.select(model, pool, budget=2)
    >>> indices
    array([1, 3])
    """

    def scores(
        self, answers: Sequence[np.ndarray], labels: np.ndarray | None = None
    ) -> np.ndarray:
        return hesitation(answers[0])
