"""The tensors in a directory of safetensors files."""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_DTYPES: dict[str, Any] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": ml_dtypes.bfloat16,
}


def open_safetensors(directory: pathlib.Path) -> dict[str, StoredTensor]:
    """Names the tensors of a model's directory; reads none of them.

    Each read opens the file for itself: what a file that stays open has mapped
    counts as memory of the process.

    Args:
        directory: with `model.safetensors`, or with several files and
            `model.safetensors.index.json`.

    Raises:
        ValueError: if there are no such files, or only pickles; if a file is
            truncated, or is not what its header or the index says; if the
            index names a file outside of the directory.
    """
    if (directory / SINGLE).exists():
        return _open(directory / SINGLE)
    if not (directory / INDEX).exists():
        raise ValueError(_nothing_to_read(directory))
    found: dict[str, StoredTensor] = {}
    for file, names in _read_index(directory / INDEX).items():
        tensors = _open(directory / file)
        if set(tensors) != names:
            wrong = sorted(set(tensors) ^ names)
            raise ValueError(
                f"`{file}` must hold what {INDEX} says. Received: "
                f"{', '.join(wrong[:5])} in one of them alone, {len(wrong)} "
                "in all."
            )
        found |= tensors
    return found


def _nothing_to_read(directory: pathlib.Path) -> str:
    pickles = sorted(
        path.name for kind in _PICKLES for path in directory.glob(kind)
    )
    rule = f"`directory` must hold {SINGLE} or {INDEX}."
    if pickles:
        return (
            f"{rule} Received: {pickles[0]}, a pickle, which runs code when "
            "it is read. The library that wrote it can save it as safetensors."
        )
    return f"{rule} Received: {directory}."


def _read_index(path: pathlib.Path) -> Mapping[str, set[str]]:
    """Returns the tensors that the index expects in each file."""
    try:
        files = json.loads(path.read_text("utf-8"))["weight_map"]
        by_file: dict[str, set[str]] = {}
        for name, file in files.items():
            by_file.setdefault(file, set()).add(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`{path.name}` must map names of tensors to files, under "
            f"`weight_map`. Received: {error!r}."
        ) from error
    for file in by_file:
        plain = isinstance(file, str) and pathlib.PurePath(file).name == file
        if not plain or not file.endswith(".safetensors"):
            raise ValueError(
                f"`{path.name}` must name safetensors files beside it. "
                f"Received: {file!r}."
            )
        if not (path.parent / file).exists():
            raise ValueError(
                f"`{path.parent}` must hold {file}, which {path.name} names. "
                "Received: no such file."
            )
    return by_file


def _open(path: pathlib.Path) -> dict[str, StoredTensor]:
    with _opened(path) as file:
        found = {}
        for name in file.keys():  # noqa: SIM118 (no mapping)
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise ValueError(
                    f"Tensors must be floats, {', '.join(_DTYPES)}. Received: "
                    f"{name} {part.get_dtype()} in {path.name}."
                )
            found[name] = StoredTensor(
                tuple(part.get_shape()),
                np.dtype(_DTYPES[part.get_dtype()]),
                functools.partial(_read, path, name),
            )
    return found


def _read(path: pathlib.Path, name: str, rows: slice) -> np.ndarray:
    with _opened(path) as file:
        return file.get_slice(name)[rows]


def _opened(path: pathlib.Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="np")
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"`{path.name}` must be a whole safetensors file. Received: {error}"
        ) from error
