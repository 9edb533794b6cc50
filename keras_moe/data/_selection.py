"""The rows that a selector chose."""

import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """The rows that were chosen, and how much each counts in training.

    Unpacks into indices and weights.

    Example:

    >>> pool = np.random.default_rng(0).random((10, 3))
    >>> chosen = keras_moe.data.RandomSelector().select(None, pool, budget=4)
    >>> indices, weights = chosen
    >>> weights
    array([1., 1., 1., 1.])

    Attributes:
        indices: int64 `[budget]`, rows of the pool, ascending.
        weights: float64 `[budget]`, for `sample_weight`: 1 counts as a row of
            a uniform sample does.
        topped_up: bool `[budget]`, true for rows that were not wanted, and
            were drawn uniformly since there were too few others.
    """

    indices: np.ndarray
    weights: np.ndarray
    topped_up: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.indices, self.weights))

    def __len__(self) -> int:
        return len(self.indices)
