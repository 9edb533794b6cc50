"""Rows of which a model is least sure."""

from collections.abc import Sequence

import numpy as np

from keras_moe.data._selector import Selector
from keras_moe.serialization import register


def surprise(log_probabilities: np.ndarray) -> np.ndarray:
    """Returns `-p log p` in nats, 0 where p is 0; of the same shape.

    Args:
        log_probabilities: float64; minus infinity for 0.
    """
    # 0 times minus infinity is NaN.
    bounded = np.maximum(log_probabilities, -1e30)
    return -np.exp(log_probabilities) * bounded


def normalized_entropy(log_probabilities: np.ndarray) -> np.ndarray:
    """Returns the entropy over its greatest value, in [0, 1], float64 `[n]`.

    Args:
        log_probabilities: float64 `[n, classes]`.
    """
    classes = log_probabilities.shape[1]
    total = surprise(log_probabilities).sum(axis=1)
    return np.clip(total / np.log(classes), 0.0, 1.0)


@register
class EntropySelector(Selector):
    """Keeps the rows of the greatest entropy.

    A simple baseline. As for `MarginSelector`, all weights are 1, and the
    sample is no picture of the pool.

    Source: [Settles, 2009](https://minds.wisconsin.edu/handle/1793/60660),
    section 3.1.

    Args:
        from_logits: whether the model gives logits, or probabilities.

    Example:

    >>> model = lambda x: np.stack([x, 1.0 - x], axis=1)
    >>> pool = np.array([0.0, 0.5, 0.9, 0.6])
    >>> selector = keras_moe.data.EntropySelector()
    >>> selector.probabilities(model, pool).round(2)
    array([0.  , 1.  , 0.47, 0.97])
    >>> indices, weights = selector.select(model, pool, budget=2)
    >>> indices
    array([1, 3])
    """

    def scores(
        self, answers: Sequence[np.ndarray], labels: np.ndarray | None = None
    ) -> np.ndarray:
        return normalized_entropy(answers[0])
