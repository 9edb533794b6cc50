"""An array that is read when it is needed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """The shape and dtype of an array, and how to get its values.

    A file of weights becomes a mapping of names to these, from which
    `keras_moe.weights.transfer` reads one after the other.

    Attributes:
        shape: of the array.
        dtype: its name, `"float32"`, or NumPy's.
        read: returns the values.

    Example:

    >>> def read():
    ...     print("reading")
    ...     return np.zeros([2], "float32")
    >>> array = keras_moe.weights.LazyArray((2,), "float32", read)
    >>> np.asarray(array)
    reading
    array([0., 0.], dtype=float32)
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.read(), dtype=dtype, copy=copy or None)
