"""New versions of a served model: whole, once, and in order."""

import json
import os
import pathlib
import shutil
import time

from keras_moe.atomic_file import atomic_file
from keras_moe.serving.versions._version_folders import is_remote

SAVED_MODEL = "saved_model.pb"
# Says, in a version, which model it was pushed from.
ORIGIN = pathlib.Path("assets.extra", "pushed_from.json")
_PARTIAL = ".{}.partial"


def push_version(
    source: str | os.PathLike, base_directory: str | os.PathLike, origin: str
) -> pathlib.Path:
    """Copies a SavedModel to a directory of versions that a server watches.

    The version appears whole or not at all, is the greatest there is, and is
    not made again where the greatest has the same origin: what was interrupted
    after the copy, and before it was recorded, is not pushed twice.

    Args:
        source: directory of the SavedModel.
        base_directory: of the versions; made if it is missing. In a local (or
            mounted) file system: one where directories can be renamed. For
            others there is `keras_moe.components.Pusher`.
        origin: identity of the model.

    Returns:
        The directory of the version.

    Raises:
        ValueError: if the source is no SavedModel, or one of both is not local.
        OSError: if it cannot be copied, as where the disk is full. The versions
            are then as they were.
    """
    source = _local("source", source)
    base = _local("base_directory", base_directory)
    if not (source / SAVED_MODEL).is_file():
        raise ValueError(
            "`source` must be the directory of a SavedModel. Received: "
            f"source={str(source)!r}, which has no {SAVED_MODEL}."
        )
    base.mkdir(parents=True, exist_ok=True)
    # What a push that was killed left. Servers do not look at such names.
    for left in base.glob(_PARTIAL.format("*")):
        shutil.rmtree(left, ignore_errors=True)
    newest = newest_version(base)
    if newest is not None and _origin_of(newest) == origin:
        return newest
    # Seconds, as TFX counts versions; also where the clock went back.
    number = int(time.time())
    if newest is not None:
        number = max(number, int(newest.name) + 1)
    partial, version = base / _PARTIAL.format(number), base / str(number)
    try:
        shutil.copytree(source, partial)
        (partial / ORIGIN).parent.mkdir(exist_ok=True)
        with atomic_file(partial / ORIGIN) as file:
            file.write_text(json.dumps({"origin": origin}) + "\n")
        _flush(partial)
        os.rename(partial, version)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _flush_entry(base)
    return version


def newest_version(base_directory: str | os.PathLike) -> pathlib.Path | None:
    """Returns the version that a server would serve, `None` if there is none.

    Args:
        base_directory: of the versions, in a local file system.

    Raises:
        ValueError: if it is not local.
    """
    versions = [
        path
        for path in _local("base_directory", base_directory).glob("*")
        if path.name.isdecimal() and (path / SAVED_MODEL).is_file()
    ]
    return max(versions, key=lambda path: int(path.name), default=None)


def _local(name: str, value: str | os.PathLike) -> pathlib.Path:
    if is_remote(value):
        raise ValueError(
            f"`{name}` must be a directory of a local file system: a remote "
            "store does not rename directories. `keras_moe.components.Pusher` "
            f"pushes to both. Received: {name}={os.fspath(value)!r}."
        )
    return pathlib.Path(value)


def _origin_of(version: pathlib.Path) -> str | None:
    try:
        return json.loads((version / ORIGIN).read_text())["origin"]
    except (FileNotFoundError, KeyError, ValueError):
        return None  # pushed by something else


def _flush(directory: pathlib.Path) -> None:
    """Waits until all is on the disk: the name must not come before it."""
    for path in directory.rglob("*"):
        _flush_entry(path)
    _flush_entry(directory)


def _flush_entry(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
