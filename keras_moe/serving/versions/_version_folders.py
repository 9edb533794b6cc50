"""The folders of a model's versions."""

import os
import pathlib

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_MAX_VERSION = 2**63 - 1


def find_versions(
    base_path: str | os.PathLike,
) -> dict[int, pathlib.Path]:
    """Lists the versions of a model, newest first.

    A version is a folder whose name is a number and that holds a
    `saved_model.pb`; without one it is still being written.

    Args:
        base_path: folder of the versions; it may not exist yet.

    Returns:
        Version number to folder.
    """
    found: dict[int, pathlib.Path] = {}
    try:
        entries = sorted(pathlib.Path(base_path).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for path in entries:
        name = path.name
        if not (name.isascii() and name.isdigit()):
            continue
        if int(name) <= _MAX_VERSION and any(
            (path / file).is_file() for file in _MODEL_FILES
        ):
            found.setdefault(int(name), path)
    return dict(sorted(found.items(), reverse=True))


def fingerprint(path: pathlib.Path) -> tuple:
    """Tells one state of a folder's files from another."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return tuple(
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for file in files
    )


def is_remote(uri: str | os.PathLike) -> bool:
    """Returns whether a URI names a store, such as `gs://bucket/x`.

    Args:
        uri: of a file or of a directory.
    """
    return "://" in os.fspath(uri)
