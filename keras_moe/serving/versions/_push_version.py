"""New versions of a served model: whole, once, and in order."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from keras_moe.model_folder import SAVED_MODEL
from keras_moe.model_folder import is_saved_model
from keras_moe.serving.versions._origin import Origin
from keras_moe.serving.versions._origin import local_digest
from keras_moe.serving.versions._origin import read_origin
from keras_moe.serving.versions._origin import write_origin
from keras_moe.serving.versions._version_folders import find_versions
from keras_moe.serving.versions._version_folders import is_remote
from keras_moe.serving.versions._version_folders import next_version

_PARTIAL = ".{}.partial"


def push_version(
    source: str | os.PathLike, base_directory: str | os.PathLike, origin: str
) -> pathlib.Path:
    """Copies a SavedModel to a directory of versions that a server watches.

    The version appears whole or not at all, is the greatest there is, and is
    not made again where the greatest has the same origin and the same files:
    what was interrupted after the copy, and before it was recorded, is not
    pushed twice. Several may push there at once, and wait for one another.

    Args:
        source: directory of the SavedModel.
        base_directory: of the versions; made if it is missing. In a local (or
            mounted) file system: one where directories can be renamed. For
            others there is `keras_moe.components.Pusher`.
        origin: identity of the model, such as the URI of its artifact.

    Returns:
        The directory of the version.

    Raises:
        ValueError: if the source is no SavedModel, or one of both is not local.
        OSError: if it cannot be copied, as where the disk is full. The versions
            are then as they were.

    Example:

    >>> import pathlib
    >>> trained = pathlib.Path(directory, "trained")
    >>> keras_moe.serving.export_endpoints(
    ...     trained,
    ...     {
    ...         "serving_default": (
    ...             lambda x: {"y": 2 * x},
    ...             [tf.TensorSpec([None], name="x")],
    ...         )
    ...     },
    ... )
    >>> version = keras_moe.serving.push_version(
    ...     trained, f"{directory}/served", origin="run 1"
    ... )
    >>> version == keras_moe.serving.newest_version(f"{directory}/served")
    True
    """
    source = _local("source", source)
    base = _local("base_directory", base_directory)
    if not is_saved_model(source):
        raise ValueError(
            "`source` must be the directory of a SavedModel. Received: "
            f"source={str(source)!r}, which has no {SAVED_MODEL}."
        )
    base.mkdir(parents=True, exist_ok=True)
    found = Origin.now(origin, local_digest(source))
    with _alone_in(base) as alone:
        if alone:
            # A push that was killed leaves a folder of such a name, which
            # servers pass by.
            for left in base.glob(_PARTIAL.format("*")):
                shutil.rmtree(left, ignore_errors=True)
        newest = newest_version(base)
        if newest is not None and _is_from(newest, found):
            return newest
        return _copy(source, base, found)


def _is_from(version: pathlib.Path, origin: Origin) -> bool:
    noted = read_origin(version)
    if noted is None or noted.model != origin.model:
        return False
    return (noted.digest or local_digest(version)) == origin.digest


def _copy(
    source: pathlib.Path, base: pathlib.Path, origin: Origin
) -> pathlib.Path:
    number = next_version(find_versions(base))
    version = base / str(number)
    partial = base / _PARTIAL.format(f"{number}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(source, partial)
        write_origin(partial, origin)
        _flush(partial)
        os.rename(partial, version)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _flush_entry(base)
    return version


@contextlib.contextmanager
def _alone_in(base: pathlib.Path) -> Iterator[bool]:
    """Waits until no other push to a directory is under way.

    Yields:
        Whether that is sure: some network file systems have no locks.
    """
    handle = os.open(base, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def newest_version(base_directory: str | os.PathLike) -> pathlib.Path | None:
    """Returns the version that a server would serve, `None` if there is none.

    Args:
        base_directory: of the versions, in a local file system.

    Raises:
        ValueError: if it is not local.

    Example:

    >>> import pathlib
    >>> for number in (9, 10):
    ...     version = pathlib.Path(directory, str(number))
    ...     version.mkdir(parents=True)
    ...     (version / "saved_model.pb").touch()
    >>> keras_moe.serving.newest_version(directory).name
    '10'
    """
    versions = find_versions(_local("base_directory", base_directory))
    return next(iter(versions.values()), None)


def _local(name: str, value: str | os.PathLike) -> pathlib.Path:
    if is_remote(value):
        raise ValueError(
            f"`{name}` must be a directory of a local file system: a remote "
            "store does not rename directories. `keras_moe.components.Pusher` "
            f"pushes to both. Received: {name}={os.fspath(value)!r}."
        )
    return pathlib.Path(value)


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
