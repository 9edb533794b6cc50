"""One runner at a time on one metadata store."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator


class AnotherRunnerError(RuntimeError):
    """Another process runs a pipeline on the same metadata."""


@contextlib.contextmanager
def only_runner(metadata_path: pathlib.Path) -> Iterator[None]:
    """Holds the metadata for this process.

    The system frees them when the process ends, however it ends.

    Args:
        metadata_path: The SQLite file, which need not exist.

    Raises:
        AnotherRunnerError: If another process holds them; it names it.
    """
    metadata_path.parent.mkdir(parents=True, exist_ok=True)
    path = metadata_path.with_name(f"{metadata_path.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode() or "unknown"
            raise AnotherRunnerError(
                f"Another runner (process {holder}) is at work on "
                f"{metadata_path}. Wait for its end, or choose another "
                "`output`."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
