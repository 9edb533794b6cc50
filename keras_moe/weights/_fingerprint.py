"""The identity of a model: what it is made of and what it has learned."""

import hashlib
import json
from typing import Any

import keras
import numpy as np


def fingerprint(model: keras.Model) -> str:
    """Returns a fingerprint of a model's class, config and weights.

    It stays the same when the model is saved and loaded, in this process or
    another, and changes with any bit of any weight. Neither the model's own
    name nor the optimizer, metrics and seeds of random numbers enter.

    Weights are told apart by their paths. Numbers that Keras appends to the
    names of layers depend on what was made before in the same process, so
    among siblings of one kind only their order counts.

    Args:
        model: built.

    Returns:
        64 hexadecimal digits, a SHA-256.

    Raises:
        ValueError: if the model is not built.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> before = keras_moe.weights.fingerprint(model)
    >>> _ = model.layers[0].bias.assign([0.0, 1.0])
    >>> keras_moe.weights.fingerprint(model) == before
    False
    """
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: {model.name}, which is not."
        )
    digest = hashlib.sha256()
    _add(digest, keras.saving.get_registered_name(type(model)).encode())
    _add(digest, _canonical_config(model).encode())
    # Without metrics, seeds and the optimizer. Their order is kept where
    # paths are equal, as Keras allows.
    weights = model.weights
    paths = [_relative_path(w.path, model.name) for w in weights]
    for key, weight in sorted(
        zip(_sort_keys(paths), weights, strict=True), key=lambda pair: pair[0]
    ):
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        _add(digest, repr(key).encode())
        _add(digest, f"{value.dtype.name}{tuple(weight.shape)}".encode())
        _add(digest, value.tobytes())
    return digest.hexdigest()


def _add(digest: Any, data: bytes) -> None:
    # With its length, so that no two lists of parts read the same.
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def _canonical_config(model: keras.Model) -> str:
    config = keras.saving.serialize_keras_object(model.get_config())
    config = {k: v for k, v in config.items() if k != "name"}
    return json.dumps(_without_state(config), sort_keys=True)


def _without_state(config: Any) -> Any:
    """Leaves out the shapes that layers were built with, and `compile`."""
    if isinstance(config, list | tuple):
        return [_without_state(c) for c in config]
    if not isinstance(config, dict):
        return config
    serialized = {"class_name", "config"} <= set(config)
    return {
        key: _without_state(value)
        for key, value in config.items()
        if not (serialized and key in ("build_config", "compile_config"))
    }


def _relative_path(path: str, name: str) -> tuple[str, ...]:
    parts = tuple(path.split("/"))
    return parts[1:] if parts[0] == name else parts


def _sort_keys(
    paths: list[tuple[str, ...]],
) -> list[tuple[tuple[str, int], ...]]:
    """Puts, for each number in a path, its rank among its siblings'."""
    siblings: dict[tuple, set[int]] = {}
    split = [[_split(part) for part in path] for path in paths]
    for path, parts in zip(paths, split, strict=True):
        for depth, (base, number) in enumerate(parts):
            siblings.setdefault((path[:depth], base), set()).add(number)
    ranks = {
        (*family, number): rank
        for family, members in siblings.items()
        for rank, number in enumerate(sorted(members))
    }
    return [
        tuple(
            (base, ranks[path[:depth], base, number])
            for depth, (base, number) in enumerate(parts)
        )
        for path, parts in zip(paths, split, strict=True)
    ]


def _split(part: str) -> tuple[str, int]:
    """Splits names that Keras counts: `dense`, `dense_1`, `dense_2`, ..."""
    base, _, number = part.rpartition("_")
    return (base, int(number)) if number.isdecimal() else (part, 0)
