"""New versions of a served model in a remote store: in order, and once."""

import contextlib
import os

from tfx.dsl.io import fileio

from keras_moe.components._artifact_files import copy_tree
from keras_moe.model_folder import ORIGIN
from keras_moe.model_folder import SAVED_MODEL
from keras_moe.model_folder import SAVED_MODEL_TEXT
from keras_moe.serving.versions._version_bundle import origin_text
from keras_moe.serving.versions._version_bundle import parse_origin
from keras_moe.serving.versions._version_folders import next_version
from keras_moe.serving.versions._version_folders import version_number

_GRAPHS = (SAVED_MODEL, SAVED_MODEL_TEXT)


def upload_version(source: str, base_directory: str, origin: str) -> str:
    """Copies a SavedModel to a remote directory of versions.

    As `keras_moe.serving.push_version`, but for one thing: object stores do
    not rename directories, so that a version is seen while it is uploaded. Its
    `saved_model.pb` comes last, as TFX's own Pusher has it: until then it is no
    version for `keras_moe.serving`, and one that fails to load for TensorFlow
    Serving, which goes on serving the one before and by default tries again
    five times, a minute apart. Where uploads take longer, raise its
    `--max_num_load_retries`.

    Args:
        source: directory of the SavedModel, in any store.
        base_directory: of the versions. One process at a time may push there.
        origin: identity of the model.

    Returns:
        The URI of the version.

    Raises:
        ValueError: if the source is no SavedModel.
    """
    if not fileio.exists(os.path.join(source, SAVED_MODEL)):
        raise ValueError(
            "`source` must be the directory of a SavedModel. Received: "
            f"source={source!r}, which has no {SAVED_MODEL}."
        )
    numbers = _numbers(base_directory)
    complete = []
    for number in numbers:
        version = os.path.join(base_directory, str(number))
        if _is_saved_model(version):
            complete.append(number)
        elif fileio.exists(os.path.join(version, ORIGIN)):
            # A push that was killed left this folder. A stock server that
            # starts now would take it for the newest, and serve none.
            fileio.rmtree(version)
    if complete:
        newest = os.path.join(base_directory, str(max(complete)))
        if _origin_of(newest) == origin:
            return newest
    version = os.path.join(base_directory, str(next_version(numbers)))
    try:
        # Write the origin first: it marks the folder as ours, so that a later
        # push may remove what an upload that was cut off left.
        _write_origin(version, origin)
        copy_tree(source, version, leave_out=(*_GRAPHS, str(ORIGIN)))
        fileio.copy(
            os.path.join(source, SAVED_MODEL),
            os.path.join(version, SAVED_MODEL),
        )
    except BaseException:
        # If the removal fails too, the next push does it.
        with contextlib.suppress(Exception):
            fileio.rmtree(version)
        raise
    return version


def _is_saved_model(version: str) -> bool:
    return any(fileio.exists(os.path.join(version, name)) for name in _GRAPHS)


def _numbers(base_directory: str) -> list[int]:
    if not fileio.exists(base_directory):
        return []
    names = [name.rstrip("/") for name in fileio.listdir(base_directory)]
    numbers = [version_number(name) for name in names]
    return [number for number in numbers if number is not None]


def _write_origin(version: str, origin: str) -> None:
    path = os.path.join(version, ORIGIN)
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(origin_text(origin))


def _origin_of(version: str) -> str | None:
    path = os.path.join(version, ORIGIN)
    if not fileio.exists(path):
        return None  # pushed by something else
    with fileio.open(path) as file:
        return parse_origin(file.read())
