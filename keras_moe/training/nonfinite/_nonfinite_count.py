"""The number of values that are NaN or infinite."""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_moe.weights._named_state import METRICS


class NonfiniteCount(NamedTuple):
    """A count of numbers that are not finite, by kind.

    Attributes:
        nan: how many are not a number.
        positive: how many are plus infinity.
        negative: how many are minus infinity.
        size: how many numbers were looked at.
    """

    nan: int = 0
    positive: int = 0
    negative: int = 0
    size: int = 0

    @property
    def total(self) -> int:
        """The number of all that are not finite."""
        return self.nan + self.positive + self.negative

    def __str__(self) -> str:
        kinds = {"NaN": self.nan, "inf": self.positive, "-inf": self.negative}
        found = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n)
        return f"{self.total} of {self.size} values: {found or 'none'}"


def count_nonfinite(values: Any) -> NonfiniteCount:
    """Returns how many numbers in a nested structure are not finite.

    Integers, and leaves without a value (such as a tensor of a graph), count
    as finite.

    Args:
        values: tensors or arrays in any structure.

    Example:

    >>> from keras_moe.training.nonfinite._nonfinite_count import (
    ...     count_nonfinite,
    ... )
    >>> print(count_nonfinite({"a": np.array([1.0, np.nan]), "b": -np.inf}))
    2 of 3 values: 1 NaN, 1 -inf
    """
    counts = [
        _count(array)
        for array in map(_to_array, keras.tree.flatten(values))
        if array is not None
    ]
    return NonfiniteCount(*map(sum, zip(*counts, strict=True)))


def first_nonfinite(state: Mapping[str, np.ndarray]) -> str | None:
    """Returns the name of the first array with a number that is not finite.

    Metrics are left out: the greatest value so far starts at minus infinity.

    Args:
        state: name to value of a model's variables, as `read_state` returns.

    Returns:
        The name; `None` if all numbers are finite.
    """
    for name, value in state.items():
        if not name.startswith(METRICS) and count_nonfinite(value).total:
            return name
    return None


def _to_array(leaf: Any) -> np.ndarray | None:
    """Returns the floats of a leaf; `None` if it has none to look at."""
    if getattr(leaf, "dtype", None) is None and not isinstance(leaf, float):
        return None
    try:
        array = np.asarray(leaf)
        is_float = keras.backend.is_float_dtype(array.dtype.name)
    except (NotImplementedError, TypeError, ValueError):
        # Symbols of TensorFlow's graphs, of JAX and of Keras have no value,
        # texts and ragged tensors no dtype that Keras knows.
        return None
    return array if is_float else None


def _count(array: np.ndarray) -> NonfiniteCount:
    finite = int(np.count_nonzero(np.isfinite(array)))
    if finite == array.size:
        # Most arrays are finite: skip three more passes over each weight.
        return NonfiniteCount(size=array.size)
    positive = int(np.count_nonzero(array == np.inf))
    negative = int(np.count_nonzero(array == -np.inf))
    nan = array.size - finite - positive - negative
    return NonfiniteCount(nan, positive, negative, array.size)
