"""The tensors in a directory that T5X wrote."""

import functools
import json
import math
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from keras_moe.conversion.checkpoints._flax_msgpack import PackedArray
from keras_moe.conversion.checkpoints._flax_msgpack import import_tensorstore
from keras_moe.conversion.checkpoints._flax_msgpack import leaves
from keras_moe.conversion.checkpoints._flax_msgpack import read_tree
from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor

FILE = "checkpoint"
_PLACEHOLDER = "PLACEHOLDER://"
_SPEC = {"driver", "kvstore"}
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


def open_t5x(directory: pathlib.Path) -> dict[str, StoredTensor]:
    """Names the tensors of a model; reads none of the large ones.

    The optimizer's state is left where it is.

    Args:
        directory: `checkpoint_N`, with the file `checkpoint` and, beside it,
            a directory in zarr's format for each large tensor.

    Raises:
        ValueError: if there is no such file; if it names something outside of
            the directory; if a tensor's files are not what its header says.
        ModuleNotFoundError: without `msgpack` and `tensorstore`.
    """
    tree = read_tree(_find(directory))
    target = tree
    for key in ("optimizer", "target"):
        target = target.get(key) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ValueError(
            f"`{FILE}` must hold `optimizer/target`, the weights. Received: "
            f"{', '.join(sorted(tree)[:5]) or 'an empty tree'}."
        )
    read = _reader(directory)
    return {
        name: _open(directory, name, value, read)
        for name, value in leaves(target, lambda value: set(value) >= _SPEC)
    }


def _find(directory: pathlib.Path) -> pathlib.Path:
    path = directory / FILE
    if path.is_file():
        return path
    below = sorted(directory.glob(f"checkpoint_*/{FILE}"))
    hint = f", but {below[-1].parent.name} in it does" if below else ""
    raise ValueError(
        f"`directory` must hold the file {FILE}. Received: {directory}, which "
        f"does not{hint}."
    )


def _open(
    directory: pathlib.Path, name: str, value: Any, read: Callable
) -> StoredTensor:
    if isinstance(value, PackedArray):
        values = value.values(name)
        return StoredTensor(values.shape, values.dtype, values.__getitem__)
    place = _place(name, value)
    header = _read_header(directory / place, name)
    shape, dtype = _check_header(directory / place, name, header)
    # One row of chunks stays in memory: rows that are read in parts would have
    # them decompressed again for each part.
    band = header["chunks"][0] * math.prod(shape[1:]) * np.dtype(dtype).itemsize
    return StoredTensor(
        shape, dtype, functools.partial(read, place, band + band // 4)
    )


def _place(name: str, value: Any) -> str:
    """Returns the directory that a leaf names. All else it says is not used.

    What a file calls a driver could make tensorstore read from anywhere.
    """
    place = value
    if isinstance(value, dict):
        kvstore = value["kvstore"]
        path = kvstore.get("path") if isinstance(kvstore, dict) else None
        place = value.get("path") if path is None else path
        if value["driver"] != "zarr":
            raise ValueError(
                f"`{name}` must be stored as zarr. Received: "
                f"{value['driver']!r}."
            )
    elif isinstance(value, str) and value.startswith(_PLACEHOLDER):
        place = value.removeprefix(_PLACEHOLDER)
    if not isinstance(place, str) or (not isinstance(value, str | dict)):
        raise ValueError(
            f"`{name}` must be an array, or the name of one. Received: "
            f"{type(value).__name__}."
        )
    place = place.removesuffix("/")
    if place in ("", ".", "..") or pathlib.PurePath(place).name != place:
        raise ValueError(
            f"`{name}` must name a directory beside {FILE}. Received: "
            f"{place!r}."
        )
    return place


def _read_header(folder: pathlib.Path, name: str) -> Mapping[str, Any]:
    path = folder / ".zarray"
    if not path.is_file():
        raise ValueError(
            f"`{name}` must lie in {folder.name} as zarr. Received: no "
            f"{path.name} there."
        )
    try:
        header = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`{folder.name}/{path.name}` must be JSON. Received: {error}."
        ) from error
    return header if isinstance(header, dict) else {}


def _check_header(
    folder: pathlib.Path, name: str, header: Mapping[str, Any]
) -> tuple[tuple[int, ...], Any]:
    """Compares what is said of a tensor with the files that are there."""
    shape, chunks = header.get("shape"), header.get("chunks")
    compressor = header.get("compressor")
    kind = compressor.get("id") if isinstance(compressor, dict) else compressor
    rules = {
        "zarr_format": header.get("zarr_format") == 2,
        "dtype": str(header.get("dtype")) in _DTYPES,
        "shape": _is_shape(shape),
        "chunks": _is_shape(chunks),
        "compressor": kind in (None, "gzip", "zlib"),
        "filters": header.get("filters") is None,
    }
    for field, holds in rules.items():
        if not holds:
            raise ValueError(
                f"`{folder.name}/.zarray` must have a `{field}` that T5X "
                f"writes. Received: {field}={header.get(field)!r}."
            )
    shape, chunks = tuple(shape), tuple(chunks)
    dtype = np.dtype(_DTYPES[header["dtype"]])
    problem = ""
    sizes = [entry.stat().st_size for entry in _files(folder)]
    number = math.prod(-(-n // m) for n, m in zip(shape, chunks, strict=False))
    chunk_bytes = math.prod(chunks) * dtype.itemsize
    most = min(sizes, default=0)
    if kind is not None:
        most = most * _MOST_OF_A_BYTE + _AROUND
    if len(shape) != len(chunks):
        problem = f"chunks of {len(chunks)} axes"
    elif number != len(sizes):
        problem = f"{len(sizes)} files for {number} chunks"
    elif most < chunk_bytes:
        problem = f"a file too short for a chunk of {chunk_bytes:,} bytes"
    if problem:
        raise ValueError(
            f"`{name}` must have the files that its header says, for the shape "
            f"{shape}. Received: {problem}."
        )
    return shape, dtype


def _is_shape(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) > 0
        and all(type(size) is int and size > 0 for size in given)
    )


def _files(folder: pathlib.Path) -> list[os.DirEntry]:
    """Returns the files of chunks: `0.1`; some writers have `0/1`."""
    found, left = [], [folder]
    while left:
        for entry in os.scandir(left.pop()):
            if entry.is_dir(follow_symlinks=False):
                left.append(pathlib.Path(entry.path))
            elif not entry.name.startswith("."):
                found.append(entry)
    return found


def _reader(directory: pathlib.Path) -> Callable[[str, slice], np.ndarray]:
    """Returns what reads some rows of a tensor, one tensor at a time."""
    tensorstore = import_tensorstore()

    @functools.lru_cache(maxsize=1)
    def opened(place: str, cached_bytes: int) -> Any:
        return tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {
                    "driver": "file",
                    "path": f"{directory.absolute() / place}/",
                },
                # A chunk without a file would be zeros.
                "fill_missing_data_reads": False,
            },
            open=True,
            read=True,
            context=tensorstore.Context(
                {"cache_pool": {"total_bytes_limit": cached_bytes}}
            ),
        ).result()

    def read(place: str, cached_bytes: int, rows: slice) -> np.ndarray:
        try:
            return opened(place, cached_bytes)[rows].read().result()
        except (ValueError, OSError) as error:
            raise ValueError(
                f"`{place}` must be whole. Received: {error}"
            ) from error

    return read
