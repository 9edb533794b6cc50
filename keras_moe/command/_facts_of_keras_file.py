"""What a `.keras` file says of its model, read without building it."""

import collections
import io
import json
import math
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import keras

from keras_moe.weights import fingerprint

_WEIGHTS = "model.weights.h5"
# Where the state of the optimizer lies among the weights.
_OPTIMIZER = "optimizer"


def facts_of_keras_file(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a `.keras` file holds, as plain values.

    Args:
        path: of the file.

    Raises:
        ValueError: if it is no such file, or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        model = _json_of(archive, "config.json", path)
        metadata = _json_of(archive, "metadata.json", path)
        shapes = _shapes_of(archive, path)
    config = model.get("config")
    if not isinstance(config, dict) or "class_name" not in model:
        raise ValueError(
            f"{path} must hold the config of a Keras model. Received: "
            f"config.json with {sorted(model)}."
        )
    numbers: collections.Counter[str] = collections.Counter()
    for dtype, count in shapes:
        numbers[dtype] += count
    facts = {
        "kind": "Keras model",
        "class": model.get("registered_name") or model["class_name"],
        "name": config.get("name"),
        "keras_version": metadata.get("keras_version"),
        "date_saved": metadata.get("date_saved"),
        "parameters": numbers.total(),
        "parameters_by_dtype": dict(numbers),
        "file_bytes": path.stat().st_size,
        "optimizer": _optimizer_of(model),
    }
    layers = collections.Counter(_class_names(config.get("layers")))
    if layers:
        facts["layers"] = dict(layers)
    else:
        facts["config"] = {
            name: value
            for name, value in config.items()
            if name != "name" and isinstance(value, str | int | float)
        }
    return facts


def fingerprint_of(path: pathlib.Path) -> str:
    """Loads a model in safe mode; returns what certificates name it by.

    Args:
        path: of the `.keras` file.

    Raises:
        ValueError: if Keras cannot load it, or will not in safe mode.
    """
    return fingerprint(
        keras.saving.load_model(path, compile=False, safe_mode=True)
    )


def _json_of(
    archive: zipfile.ZipFile, name: str, path: pathlib.Path
) -> dict[str, Any]:
    try:
        document = json.loads(archive.read(name))
    except (KeyError, ValueError, RuntimeError, zlib.error) as error:
        raise ValueError(
            f"{path} must be a `.keras` file with {name} as JSON. {error}"
        ) from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} must have an object in its {name}.")
    return document


def _shapes_of(
    archive: zipfile.ZipFile, path: pathlib.Path
) -> list[tuple[str, int]]:
    """Returns dtype and size of each of the model's variables."""
    found: list[tuple[str, int]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.split("/")[0] != _OPTIMIZER:
            # HDF5 has no bfloat16: Keras notes it beside the bytes.
            dtype = str(item.attrs.get("dtype", item.dtype))
            found.append((dtype, math.prod(item.shape)))

    try:
        with h5py.File(io.BytesIO(archive.read(_WEIGHTS)), "r") as file:
            file.visititems(visit)
    except (KeyError, OSError, RuntimeError, zlib.error) as error:
        raise ValueError(
            f"{path} must hold {_WEIGHTS}, whole. {error}"
        ) from error
    return found


def _optimizer_of(model: dict[str, Any]) -> str | None:
    compiled = model.get("compile_config") or {}
    optimizer = compiled.get("optimizer")
    if isinstance(optimizer, dict):
        return str(optimizer.get("class_name"))
    return None if optimizer is None else str(optimizer)


def _class_names(layers: Any) -> Iterator[str]:
    """Yields the class of each layer, of those within models as well."""
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and "class_name" in layer:
            yield str(layer.get("registered_name") or layer["class_name"])
            config = layer.get("config")
            if isinstance(config, dict):
                yield from _class_names(config.get("layers"))
