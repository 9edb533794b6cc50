"""The identity of a model: what it is made of and what it has learned."""

import hashlib
import json
from typing import Any

import keras
import numpy as np

from keras_moe.weights._layer_names import NAMING
from keras_moe.weights._named_weights import named_weights
from keras_moe.weights._named_weights import without_state


def fingerprint(model: keras.Model) -> str:
    """Returns a fingerprint of a model's class, config and weights.

    It stays the same when the model is saved and loaded, in this process or
    another, and changes with any bit of any weight. Neither the model's own
    name nor the optimizer, metrics and seeds of random numbers enter. (A model
    with LoRA becomes another by saving: Keras merges the factors into the
    kernels of the file, and draws new ones when it loads it.)

    Weights are told apart by the names of `named_weights`. Another version of
    that naming may give the same model another fingerprint, so the version
    stands before it.

    Args:
        model: built.

    Returns:
        The version of the naming, a colon, and 64 hexadecimal digits, a
        SHA-256.

    Raises:
        ValueError: if the model is not built.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> before = keras_moe.weights.fingerprint(model)
    >>> _ = model.layers[0].bias.assign([0.0, 1.0])
    >>> keras_moe.weights.fingerprint(model) == before
    False
    """
    weights = without_state(named_weights(model), model)
    digest = hashlib.sha256()
    _add(digest, keras.saving.get_registered_name(type(model)).encode())
    _add(digest, _canonical_config(model).encode())
    for name in sorted(weights):
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weights[name]))
        _add(digest, name.encode())
        _add(digest, f"{value.dtype.name}{tuple(weights[name].shape)}".encode())
        _add(digest, value.tobytes())
    return f"{NAMING}:{digest.hexdigest()}"


def _add(digest: Any, data: bytes) -> None:
    # The length goes before the part: without it, two lists of parts that are
    # split elsewhere would have one digest.
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
