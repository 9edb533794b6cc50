"""What functions, files and folders must be to become a SavedModel."""

import keyword
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_moe.model_folder import ORIGIN
from keras_moe.model_folder import PAGE
from keras_moe.model_folder import WARMUP_REQUESTS

Endpoint = tuple[Callable[..., Any], Sequence[tf.TensorSpec]]
WriteFn = Callable[[pathlib.Path], Any]

# What a version's life writes beside the graph, each by a function of its own.
_WRITTEN_LATER = {
    WARMUP_REQUESTS.name: "`keras_moe.serving.write_warmup_requests`",
    ORIGIN.name: "`keras_moe.serving.push_version`",
    PAGE.name: "`keras_moe.serving.write_page`",
}
# TensorFlow keeps an attribute of the first name, and an entry of the second.
_RESERVED_SIGNATURES = ("signatures", "__saved_model_init_op")


def check_directory(directory: str) -> None:
    """Raises `ValueError` unless a directory is new or empty."""
    if not directory or (
        tf.io.gfile.exists(directory) and not tf.io.gfile.isdir(directory)
    ):
        raise ValueError(
            "`directory` must name a folder. Received: "
            f"directory={directory!r}."
        )
    if tf.io.gfile.exists(directory) and tf.io.gfile.listdir(directory):
        raise ValueError(
            "`directory` must be new or empty. Received: "
            f"directory={directory!r}, which holds files."
        )


def check_mappings(endpoints: Any, assets: Any) -> None:
    """Raises `ValueError` unless both map names, or there are no assets."""
    for name, value in (("endpoints", endpoints), ("assets", assets)):
        if not isinstance(value, Mapping) and (name, value) != ("assets", None):
            raise ValueError(
                f"`{name}` must be a dictionary. Received: {name}={value!r}."
            )


def checked_list(tracked: Any) -> list:
    """Returns resources as a list; raises `ValueError` where they are none."""
    # A model alone would be an error of Python's, that names no argument.
    if isinstance(tracked, keras.Layer) or not isinstance(tracked, Iterable):
        raise ValueError(
            "`tracked` must be a list of models and other resources. Received: "
            f"tracked={tracked!r}."
        )
    return list(tracked)


def check_endpoints(endpoints: dict[str, Endpoint]) -> None:
    """Raises `ValueError` unless signatures are as `export_endpoints` says."""
    if not endpoints:
        raise ValueError(
            "`endpoints` must hold at least one signature. Received: "
            f"endpoints={endpoints!r}."
        )
    for name, endpoint in endpoints.items():
        if (
            not isinstance(name, str)
            or not name
            or name in _RESERVED_SIGNATURES
        ):
            # Requests that give the empty name mean `serving_default`.
            raise ValueError(
                "`endpoints` must have names of signatures, and none of "
                f"{_RESERVED_SIGNATURES}. Received: {name!r}."
            )
        if not isinstance(endpoint, Sequence) or len(endpoint) != 2:
            raise ValueError(
                f"`endpoints[{name!r}]` must be a pair of a function and its "
                f"`tf.TensorSpec`s. Received: {endpoint!r}."
            )
        function, specs = endpoint
        if not callable(function):
            raise ValueError(
                f"`endpoints[{name!r}]` must begin with a function. Received: "
                f"{function!r}."
            )
        if not isinstance(specs, Sequence) or not all(
            isinstance(spec, tf.TensorSpec) for spec in specs
        ):
            raise ValueError(
                f"`endpoints[{name!r}]` must end with a list of "
                f"`tf.TensorSpec`s. Received: {specs!r}."
            )
        names = [spec.name for spec in specs]
        if None in names or len(set(names)) < len(names):
            raise ValueError(
                f"The `tf.TensorSpec`s of `endpoints[{name!r}]` must have "
                f"names that differ. Received: {names}."
            )
        if not all(map(is_input_name, names)):
            raise ValueError(
                f"The `tf.TensorSpec`s of `endpoints[{name!r}]` must have "
                "names such as 'features': ASCII, as Python names a variable, "
                "without an underscore in front, and not 'self'. Received: "
                f"{names}."
            )


def is_input_name(name: Any) -> bool:
    """Returns whether TensorFlow keeps a name of an input as it is.

    `"a/b"` would become `a_b`, `"1"` would become `arg_1`, in silence.
    """
    return (
        isinstance(name, str)
        and name.isascii()
        and name.isidentifier()
        and not name.startswith("_")
        and not keyword.iskeyword(name)
        and name != "self"
    )


def check_assets(assets: dict[str, WriteFn]) -> None:
    """Raises `ValueError` unless files are as `export_endpoints` says."""
    for name, write in assets.items():
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name:
            raise ValueError(
                "`assets` must have names of files, without folders. "
                f"Received: {name!r}."
            )
        if name in _WRITTEN_LATER:
            raise ValueError(
                f"`assets` must leave {name!r} to {_WRITTEN_LATER[name]}."
            )
        if not callable(write):
            raise ValueError(
                f"`assets[{name!r}]` must be a function that writes a file. "
                f"Received: {write!r}."
            )
