"""A tensor in a file, read some rows at a time."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np

# Bytes in memory besides the model's: few reads, and little beside a model.
_CHUNK_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """What a file says of a tensor, and how to get some of its rows.

    Attributes:
        shape: of the tensor.
        dtype: of NumPy, or of `ml_dtypes`.
        read: returns the values of a range of the first axis.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[slice], np.ndarray]

    def chunks(self) -> Iterator[np.ndarray]:
        """Yields the values, some rows at a time."""
        for rows in row_ranges(self.shape, self.dtype):
            yield self.read(rows)

    def equals(self, other: "StoredTensor") -> bool:
        """Whether both hold the same values."""
        alike = self.shape == other.shape and self.dtype == other.dtype
        return alike and all(
            np.array_equal(one, two)
            for one, two in zip(self.chunks(), other.chunks(), strict=True)
        )

    def turned(self) -> np.ndarray:
        """Returns the matrix with its axes exchanged."""
        values = np.empty(self.shape[::-1], self.dtype)
        start = 0
        for chunk in self.chunks():
            values[:, start : start + len(chunk)] = chunk.T
            start += len(chunk)
        return values


def row_ranges(shape: tuple[int, ...], dtype: Any) -> Iterator[slice]:
    """Yields ranges of the first axis, each of few bytes."""
    rows = shape[0]
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
