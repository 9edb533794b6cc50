"""New versions of a served model in a remote store: in order, and once."""

import contextlib
import json
import os
import time

from tfx.dsl.io import fileio

from keras_moe.components._artifact_files import copy_tree
from keras_moe.serving.versions._push_version import ORIGIN
from keras_moe.serving.versions._push_version import SAVED_MODEL


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
        if fileio.exists(os.path.join(version, SAVED_MODEL)):
            complete.append(number)
        elif fileio.exists(os.path.join(version, ORIGIN)):
            # What a push that was killed left: a server that starts now would
            # take it for the newest, and have none to serve instead.
            fileio.rmtree(version)
    if complete:
        newest = os.path.join(base_directory, str(max(complete)))
        if _origin_of(newest) == origin:
            return newest
    # Seconds, as TFX counts versions; also where the clock went back.
    number = max([int(time.time()), *(each + 1 for each in numbers)])
    version = os.path.join(base_directory, str(number))
    try:
        # First of all, as it marks what is left of an upload as ours.
        _write_origin(version, origin)
        copy_tree(source, version, leave_out=(SAVED_MODEL, str(ORIGIN)))
        fileio.copy(
            os.path.join(source, SAVED_MODEL),
            os.path.join(version, SAVED_MODEL),
        )
    except BaseException:
        # Where that fails too, the next push does it.
        with contextlib.suppress(Exception):
            fileio.rmtree(version)
        raise
    return version


def _numbers(base_directory: str) -> list[int]:
    if not fileio.exists(base_directory):
        return []
    names = [name.rstrip("/") for name in fileio.listdir(base_directory)]
    return [int(name) for name in names if name.isdecimal()]


def _write_origin(version: str, origin: str) -> None:
    path = os.path.join(version, ORIGIN)
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(json.dumps({"origin": origin}) + "\n")


def _origin_of(version: str) -> str | None:
    path = os.path.join(version, ORIGIN)
    if not fileio.exists(path):
        return None  # pushed by something else
    with fileio.open(path) as file:
        try:
            return json.loads(file.read())["origin"]
        except (KeyError, ValueError):
            return None
