"""Files that appear complete or not at all, whenever their writer dies."""

import contextlib
import fcntl
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator

_SUFFIX = ".partial"


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary file to write to, and renames it in the end.

    The content is on the disk before the name is, and the name before the
    context ends. Where it ends by an error, nothing is left behind; where the
    process is killed, `remove_partial_files` finds what is.

    Args:
        path: the file's name; what is there is replaced.

    Yields:
        The temporary file, an empty one in the same directory.

    Example:

    >>> import pathlib
    >>> from keras_moe.atomic_file import atomic_file
    >>> path = pathlib.Path(directory + ".txt")
    >>> with atomic_file(path) as partial:
    ...     _ = partial.write_text("all of it")
    ...     print(path.exists())
    False
    >>> path.read_text()
    'all of it'
    """
    path = pathlib.Path(path)
    partial, handle = _create(path)
    try:
        try:
            yield partial
            os.fsync(handle)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_room(directory: str | os.PathLike, size: int) -> None:
    """Raises `OSError` unless a file has room in a directory.

    For what is written by a library that fails badly on a full disk.

    Args:
        directory: where the file will be.
        size: bytes of the file.
    """
    with (
        tempfile.TemporaryFile(dir=os.fspath(directory)) as file,
        # Not every system has the call.
        contextlib.suppress(AttributeError),
    ):
        os.posix_fallocate(file.fileno(), 0, size)


def remove_partial_files(directory: str | os.PathLike) -> None:
    """Removes partial files of killed writers, but none that is being written.

    Args:
        directory: to look in.
    """
    for path in pathlib.Path(directory).glob(f".*{_SUFFIX}"):
        # Another process may have removed the file meanwhile, or its owner may
        # be another user.
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                # A writer holds the lock while it lives; then the system frees
                # it. Process numbers need not be compared.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def _create(path: pathlib.Path) -> tuple[pathlib.Path, int]:
    while True:
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_SUFFIX}")
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        # On a file system without locks `remove_partial_files` gets none
        # either, and removes nothing.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Between `open` and `flock` another process may have taken the file for
        # one that a killed writer left, and removed it: then try again.
        if os.fstat(handle).st_nlink:
            return partial, handle
        os.close(handle)
