"""One runner at a time on one metadata store."""

import contextlib
import fcntl
import os
import pathlib
import sqlite3
from collections.abc import Iterator

# Seconds to wait for a program that looks into the metadata.
_PATIENCE = 3.0


class AnotherRunnerError(RuntimeError):
    """Another process runs a pipeline on the same metadata.

    Example:
    >>> path = f"{directory}/meta.sqlite"
    >>> with keras_moe.orchestration.only_runner(path):
    ...     with keras_moe.orchestration.only_runner(path):
    ...         pass
    Traceback (most recent call last):
    keras_moe...AnotherRunnerError: Another runner (process ...) is at work...
    """


@contextlib.contextmanager
def only_runner(metadata_path: str | os.PathLike) -> Iterator[None]:
    """Keeps other runners away from the metadata during a block.

    The operating system lifts the lock when the process ends, however it ends.

    Example:
    >>> with keras_moe.orchestration.only_runner(f"{directory}/meta.sqlite"):
    ...     print("alone")
    alone

    Args:
        metadata_path: The SQLite file, which need not exist.

    Raises:
        AnotherRunnerError: If another process holds the metadata; the message
            names that process, if it is a runner.
        OSError: If the folder of the metadata cannot be written.
    """
    path = pathlib.Path(metadata_path)
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OSError(
            "`output` must be a folder that can be written. Received: "
            f"{path.parent}: {error}"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode() or "unknown"
            raise AnotherRunnerError(
                f"Another runner (process {holder}) is at work on {path}. "
                "Wait for its end, or choose another `output`."
            ) from error
        _check_unlocked(path)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _check_unlocked(path: pathlib.Path) -> None:
    """Raises where another program writes: TFX would wait for minutes."""
    if not path.is_file():
        return
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    except sqlite3.OperationalError as error:
        raise AnotherRunnerError(
            f"Another program keeps {path} from being written ({error}). Close "
            "it, or choose another `output`."
        ) from error
    finally:
        connection.close()
