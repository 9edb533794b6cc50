"""A tensor in a directory of zarr's second format, as T5X writes it."""

import gzip
import itertools
import json
import math
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import ml_dtypes
import numpy as np

from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor

_HEADER = ".zarray"
_DTYPES: dict[str, Any] = {
    "<f8": "float64",
    "<f4": "float32",
    "<f2": "float16",
    "bfloat16": ml_dtypes.bfloat16,
}
# What deflate can make of a byte at best, and the bytes around it. A header
# that says more of a file would have memory taken for values that are not
# there.
_MOST_OF_A_BYTE, _AROUND = 1032, 64


class _Header(NamedTuple):
    """What T5X writes of an array; all else is refused."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: Any
    compressed: bool
    separator: str

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks along each axis; those at the end are whole."""
        return tuple(
            -(-size // chunk)
            for size, chunk in zip(self.shape, self.chunks, strict=True)
        )


def open_zarr(folder: pathlib.Path) -> StoredTensor:
    """Returns the tensor in a directory; reads its header alone.

    tensorstore, which reads all of zarr, decompresses a chunk as a whole, and
    keeps some for each of its threads: with it the peak was one and a half
    times the model. Here rows come out of the compressed files as they are
    asked for.

    Raises:
        ValueError: if the header is not one that T5X writes, or its chunks
            are not those that lie there.
    """
    header = _read_header(folder)
    _check_files(folder, header)
    return StoredTensor(header.shape, header.dtype, _Rows(folder, header))


class _Rows:
    """Reads ranges of rows, quickly where one follows the other."""

    def __init__(self, folder: pathlib.Path, header: _Header) -> None:
        self._folder, self._header = folder, header
        self._band: _Band | None = None

    def __call__(self, rows: slice) -> np.ndarray:
        step = self._header.chunks[0]
        parts, start = [], rows.start
        while start < rows.stop:
            number = start // step
            band = self._band
            if band is None or (band.number, band.row) != (number, start):
                band = self._band = _Band(self._folder, self._header, number)
                band.take(start - number * step)
            stop = min(rows.stop, (number + 1) * step)
            parts.append(band.take(stop - start))
            start = stop
        if rows.stop == self._header.shape[0]:
            self._band = None
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Band:
    """Chunks that begin at the same row, and lie beside each other.

    Attributes:
        number: place among the bands.
        row: the one that comes next.
    """

    def __init__(
        self, folder: pathlib.Path, header: _Header, number: int
    ) -> None:
        self._header = header
        self.number = number
        self._end = (number + 1) * header.chunks[0]
        self.row = number * header.chunks[0]
        self._files = {}
        for place in itertools.product(*map(range, header.grid[1:])):
            name = header.separator.join(map(str, (number, *place)))
            path = folder / name
            file = gzip.open(path) if header.compressed else path.open("rb")
            self._files[place] = file

    def take(self, count: int) -> np.ndarray:
        """Returns the next rows."""
        chunks = self._header.chunks[1:]
        values = np.empty((count, *self._header.shape[1:]), self._header.dtype)
        for place, file in self._files.items():
            window = tuple(
                slice(n * size, (n + 1) * size)
                for n, size in zip(place, chunks, strict=True)
            )
            into = values[(slice(None), *window)]
            part = self._read(file, count).reshape(count, *chunks)
            into[...] = part[tuple(slice(0, size) for size in into.shape)]
        self.row += count
        return values

    def _read(self, file: Any, count: int) -> np.ndarray:
        wanted = count * self._header.chunk_bytes // self._header.chunks[0]
        try:
            data = file.read(wanted)
            last = self.row + count == self._end
            # The checksum is compared at the end of a file.
            if len(data) < wanted or (last and file.read(1)):
                raise EOFError("it is not as long as the header says")
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"`{pathlib.Path(file.name).parent.name}` must be whole. "
                f"Received: {error}."
            ) from error
        return np.frombuffer(data, self._header.dtype)


def _read_header(folder: pathlib.Path) -> _Header:
    path = folder / _HEADER
    if not path.is_file():
        raise ValueError(
            f"`{folder.name}` must be a directory in zarr's format. Received: "
            f"no {_HEADER} there."
        )
    try:
        given = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`{folder.name}/{_HEADER}` must be JSON. Received: {error}."
        ) from error
    given = given if isinstance(given, dict) else {}
    shape: Any = given.get("shape")
    chunks: Any = given.get("chunks")
    compressor = given.get("compressor")
    kind = compressor.get("id") if isinstance(compressor, dict) else compressor
    separator = given.get("dimension_separator", ".")
    rules = {
        "zarr_format": given.get("zarr_format") == 2,
        "dtype": str(given.get("dtype")) in _DTYPES,
        "shape": _is_shape(shape),
        "chunks": _is_shape(chunks) and len(chunks) == len(shape),
        "compressor": kind in (None, "gzip"),
        "filters": given.get("filters") is None,
        "order": given.get("order", "C") == "C",
        "dimension_separator": separator in (".", "/"),
    }
    for field, holds in rules.items():
        if not holds:
            raise ValueError(
                f"`{folder.name}/{_HEADER}` must have a `{field}` that T5X "
                f"writes. Received: {field}={given.get(field)!r}."
            )
    return _Header(
        tuple(shape),
        tuple(chunks),
        np.dtype(_DTYPES[given["dtype"]]),
        kind is not None,
        separator,
    )


def _is_shape(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) > 0
        and all(type(size) is int and size > 0 for size in given)
    )


def _check_files(folder: pathlib.Path, header: _Header) -> None:
    """Compares what is said of a tensor with the files that are there."""
    sizes = list(_sizes(folder))
    number = math.prod(header.grid)
    most = min(sizes, default=0)
    if header.compressed:
        most = most * _MOST_OF_A_BYTE + _AROUND
    problem = ""
    if number != len(sizes):
        problem = f"{len(sizes)} files for {number} chunks"
    elif most < header.chunk_bytes:
        problem = (
            f"a file too short for a chunk of {header.chunk_bytes:,} bytes"
        )
    if problem:
        raise ValueError(
            f"`{folder.name}` must have the files that its header says, for "
            f"the shape {header.shape}. Received: {problem}."
        )


def _sizes(folder: pathlib.Path) -> Iterator[int]:
    """Yields the sizes of the chunks' files, `0.1`, or `0/1`."""
    for above, _, names in os.walk(folder):
        for name in names:
            if not name.startswith("."):
                yield os.stat(os.path.join(above, name)).st_size
