"""What a subcommand writes: checked early, and there as a whole or not."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


def check_new(name: str, target: pathlib.Path) -> None:
    """Raises `ValueError` unless something can be written under a new name.

    Work of minutes must not end at a directory that is read-only.

    Args:
        name: of the argument.
        target: to be written.
    """
    if target.exists():
        raise ValueError(f"`{name}` must be new. Received: {target}.")
    if not target.parent.is_dir():
        raise ValueError(
            f"`{name}` must lie in a directory that exists. Received: "
            f"{target.parent}."
        )
    check_writable(name, target.parent)


def check_writable(name: str, folder: pathlib.Path) -> None:
    """Raises `ValueError` unless files can be made in a directory.

    Args:
        name: of the argument that lies in it.
        folder: that exists.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"`{name}` must lie in a directory that may be written. Received: "
            f"{folder}."
        )


@contextlib.contextmanager
def whole(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path of the same suffix to write to, and renames it in the end.

    For libraries that open the file or directory themselves. Where the context
    ends by an error, say of a full disk, nothing is left behind.

    Args:
        target: new.

    Yields:
        The path, of which nothing is there yet.
    """
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix=".keras-moe-"
    ) as folder:
        partial = pathlib.Path(folder, target.name)
        yield partial
        os.replace(partial, target)
