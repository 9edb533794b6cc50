"""Arrays and a JSON header in one HDF5 file, with a checksum."""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError
from keras_moe.training.checkpoints._reserved_file import ReservedFile
from keras_moe.training.checkpoints._stored_datasets import StoredDatasets

# HDF5 leaves the first bytes of a file to its user: they hold the checksum. Any
# tool that reads HDF5 skips them.
_BLOCK_SIZE = 512
_BLOCK = re.compile(rb"keras_moe arrays 1, (\d+) bytes, SHA-256 ([0-9a-f]{64})")
# What HDF5 writes besides the values: for each array, and for the file.
_EACH, _AROUND = 4096, 2**16
_NAMES, _HEADER, _ARRAYS = "names", "header", "arrays"
# HDF5 does not know other types, such as bfloat16: they are stored as unsigned
# integers of their size.
_HDF5_TYPES = frozenset(
    ["float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)


def write_arrays(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    header: Mapping[str, Any] | None = None,
) -> None:
    """Writes arrays to a file, which reads back bit by bit.

    Args:
        path: path of the file, which replaces one that is there. A power cut
            may leave half of it: write within `atomic_file`.
        arrays: name to array of any shape, of numbers, booleans, or a type of
            `ml_dtypes` of at least a byte.
        header: name to a value that JSON can hold.

    Raises:
        ValueError: if an array is of another type.

    Example:

    >>> from keras_moe.training.checkpoints._array_file import read_arrays
    >>> from keras_moe.training.checkpoints._array_file import write_arrays
    >>> write_arrays(directory + ".h5", {"a/b": np.eye(2)}, {"step": 3})
    >>> arrays, header = read_arrays(directory + ".h5")
    >>> arrays["a/b"].tolist(), header
    ([[1.0, 0.0], [0.0, 1.0]], {'step': 3})
    """
    path = pathlib.Path(path)
    stored = {name: _to_stored(name, array) for name, array in arrays.items()}
    documents = [
        _to_bytes([[name, array.dtype.name] for name, array in arrays.items()]),
        _to_bytes(dict(header or {})),
    ]
    needed = sum(
        array.nbytes + _EACH for array in (*documents, *stored.values())
    )
    with open(path, "w+b") as raw:
        with (
            ReservedFile(raw.fileno(), needed + _AROUND) as reserved,
            h5py.File(reserved, "w", userblock_size=_BLOCK_SIZE) as file,
        ):
            file[_NAMES], file[_HEADER] = documents
            # HDF5 takes names for paths: "a" and "a/b" could not both be
            # arrays.
            group = file.create_group(_ARRAYS)
            for number, array in enumerate(stored.values()):
                group[str(number)] = array
        size = os.fstat(raw.fileno()).st_size
        digest = _digest(raw)
        raw.write(_block(size, digest))


def read_arrays(
    path: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a file of `write_arrays`.

    Args:
        path: path of the file.

    Returns:
        The arrays and the header.

    Raises:
        DamagedFileError: if any byte of the file has changed.
        FileNotFoundError: if there is no file.
    """
    with open(path, "rb") as raw:
        _check(raw, path, thorough=True)
        return _read(raw, path, with_arrays=True)


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the header alone, without computing the checksum.

    Args:
        path: path of the file.

    Raises:
        DamagedFileError: if the header cannot be read or the file is cut off.
        FileNotFoundError: if there is no file.
    """
    with open(path, "rb") as raw:
        _check(raw, path, thorough=False)
        return _read(raw, path, with_arrays=False)[1]


def _check(raw: Any, path: Any, thorough: bool) -> None:
    block = raw.read(_BLOCK_SIZE)
    match = _BLOCK.match(block)
    if match is None or block != _block(int(match[1]), match[2].decode()):
        raise DamagedFileError(
            f"{path} must begin as a file of arrays does; it is damaged or of "
            f"another kind. Received: {block[:60]!r}."
        )
    size = os.fstat(raw.fileno()).st_size
    if size != int(match[1]):
        raise DamagedFileError(
            f"{path} is damaged. It must have {int(match[1])} bytes. Received: "
            f"{size} bytes."
        )
    if thorough and (digest := _digest(raw)) != match[2].decode():
        raise DamagedFileError(
            f"{path} is damaged. Its SHA-256 must be {match[2].decode()}. "
            f"Received: {digest}."
        )


def _read(
    raw: Any, path: Any, with_arrays: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        # Opened by its path, the file could by now be another one than the one
        # that was checked.
        with h5py.File(raw, "r") as file:
            datasets = StoredDatasets(file, os.fstat(raw.fileno()).st_size)
            header = _from_bytes(datasets.read(_HEADER), dict)
            if not with_arrays:
                return {}, header
            names = _from_bytes(datasets.read(_NAMES), list)
            arrays = {
                name: _from_stored(datasets.read(f"{_ARRAYS}/{number}"), dtype)
                for number, (name, dtype) in enumerate(names)
            }
            if len(arrays) != len(names):
                raise ValueError("A name is given twice.")
            return arrays, header
    # h5py raises one or another of these, depending on which byte is wrong.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DamagedFileError(f"{path} is damaged. {error}") from error


def _block(size: int, digest: str) -> bytes:
    text = f"keras_moe arrays 1, {size} bytes, SHA-256 {digest}\n"
    return text.encode().ljust(_BLOCK_SIZE, b"\0")


def _digest(raw: Any) -> str:
    """Returns the checksum of what follows the block; leaves `raw` at 0."""
    raw.seek(_BLOCK_SIZE)
    digest = hashlib.file_digest(raw, "sha256").hexdigest()
    raw.seek(0)
    return digest


def _to_bytes(document: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


def _to_stored(name: str, array: np.ndarray) -> np.ndarray:
    """Returns the same bits under a type that HDF5 knows."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = array.dtype
    if dtype.name in _HDF5_TYPES:
        return array
    if dtype != np.bool_ and not hasattr(ml_dtypes, dtype.name):
        raise ValueError(
            "An array must hold numbers or booleans. Received: "
            f"{name!r} of dtype {dtype}."
        )
    # `view` needs the order of C; `ascontiguousarray` would make a vector of a
    # scalar.
    return np.array(array, order="C").view(f"u{dtype.itemsize}")


def _from_bytes(stored: np.ndarray, kind: type) -> Any:
    document = json.loads(stored.tobytes())
    if not isinstance(document, kind):
        raise ValueError(
            f"A {kind.__name__} must be there. Received: "
            f"{type(document).__name__}."
        )
    return document


def _from_stored(stored: np.ndarray, name: str) -> np.ndarray:
    """Returns the same bits under the type that they were written as."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    # Any other name could be that of objects, whose bits are addresses.
    if _to_stored(name, np.empty(0, dtype)).dtype != stored.dtype:
        raise ValueError(
            f"An array of {name} must not be stored as {stored.dtype}."
        )
    if dtype == np.bool_ and stored.size and stored.max() > 1:
        raise ValueError("A boolean must be 0 or 1.")
    return stored.view(dtype)
