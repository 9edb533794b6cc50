"""New versions of a served model in a remote store: in order, and once."""

import contextlib
import os
import time
from functools import partial

from tfx.dsl.io import fileio

from keras_moe.components._artifact_files import copy_tree
from keras_moe.model_folder import ORIGIN
from keras_moe.model_folder import SAVED_MODEL
from keras_moe.model_folder import SAVED_MODEL_TEXT
from keras_moe.serving.versions._origin import Origin
from keras_moe.serving.versions._origin import content_digest
from keras_moe.serving.versions._version_folders import next_version
from keras_moe.serving.versions._version_folders import version_number

_GRAPHS = (SAVED_MODEL, SAVED_MODEL_TEXT)
# Longer than any upload takes, in seconds: stores have no locks that would tell
# whether an upload is still under way.
_A_DAY = 86_400


def upload_version(source: str, base_directory: str, origin: str) -> str:
    """Copies a SavedModel to a remote directory of versions.

    As `keras_moe.serving.push_version`, but for one thing: object stores do
    not rename directories, so that a version is seen while it is uploaded. Its
    `saved_model.pb` comes last, as TFX's own Pusher has it: until then it is no
    version for `keras_moe.serving`, and one that fails to load for TensorFlow
    Serving, which goes on serving the one before and by default tries again
    five times, a minute apart. Where uploads take longer, raise its
    `--max_num_load_retries`. What an upload that was killed left is removed by
    a push at least a day later: until then, it may be under way.

    Args:
        source: directory of the SavedModel, in any store.
        base_directory: of the versions. Two processes should not begin to push
            there within one second: they would choose the same number.
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
        elif _is_left_over(version):
            # A stock server that starts now would take the folder for the
            # newest version, and serve none.
            fileio.rmtree(version)
    found = Origin.now(origin, _digest(source))
    if complete:
        newest = os.path.join(base_directory, str(max(complete)))
        if _is_from(newest, found):
            return newest
    version = os.path.join(base_directory, str(next_version(numbers)))
    try:
        # Write the origin first: it marks the folder as ours, so that a later
        # push may remove what an upload that was cut off left.
        _write_origin(version, found)
        copy_tree(source, version, leave_out=(*_GRAPHS, str(ORIGIN)))
        fileio.copy(
            os.path.join(source, SAVED_MODEL),
            os.path.join(version, SAVED_MODEL),
        )
    except BaseException:
        # If the removal fails too, a later push does it.
        with contextlib.suppress(Exception):
            fileio.rmtree(version)
        raise
    return version


def _is_saved_model(version: str) -> bool:
    return any(fileio.exists(os.path.join(version, name)) for name in _GRAPHS)


def _is_left_over(version: str) -> bool:
    """Tells whether a folder is of a push of ours that must have ended."""
    origin = _origin_of(version)
    return origin is not None and abs(time.time() - origin.begun) > _A_DAY


def _is_from(version: str, origin: Origin) -> bool:
    noted = _origin_of(version)
    if noted is None or noted.model != origin.model:
        return False
    return (noted.digest or _digest(version)) == origin.digest


def _digest(folder: str) -> str:
    folder = folder.rstrip("/")
    paths = [
        os.path.join(inside, name)
        for inside, _, names in fileio.walk(folder)
        for name in names
    ]
    return content_digest(
        {
            path[len(folder) :].strip("/"): partial(fileio.open, path, "rb")
            for path in paths
        }
    )


def _numbers(base_directory: str) -> list[int]:
    if not fileio.exists(base_directory):
        return []
    names = [name.rstrip("/") for name in fileio.listdir(base_directory)]
    numbers = [version_number(name) for name in names]
    return [number for number in numbers if number is not None]


def _write_origin(version: str, origin: Origin) -> None:
    path = os.path.join(version, ORIGIN)
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(origin.text())


def _origin_of(version: str) -> Origin | None:
    path = os.path.join(version, ORIGIN)
    if not fileio.exists(path):
        return None  # pushed by something else
    with fileio.open(path) as file:
        return Origin.parse(file.read())
