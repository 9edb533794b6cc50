"""The folders of a model's versions."""

import os
import pathlib
import time
from collections.abc import Iterable

from keras_moe.model_folder import is_saved_model

# Versions are signed 64-bit numbers in TensorFlow Serving's messages.
MAX_VERSION = 2**63 - 1
_MAX_DIGITS = 19


def version_number(name: str) -> int | None:
    """Reads the number of a version from a folder's name or a request.

    Args:
        name: decimal digits; zeros in front do not count.

    Returns:
        The number; `None` if the name is no number from 0 to 2^63 - 1.
    """
    if not (name.isascii() and name.isdigit()):
        return None
    # Python refuses to convert numbers of thousands of digits.
    digits = name.lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS or int(digits) > MAX_VERSION:
        return None
    return int(digits)


def find_versions(
    base_path: str | os.PathLike,
) -> dict[int, pathlib.Path]:
    """Lists the versions of a model, newest first.

    A version is a folder whose name is a number (`version_number`) and that is
    a SavedModel; without a `saved_model.pb` it is still being written.

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
        number = version_number(path.name)
        if number is not None and is_saved_model(path):
            found.setdefault(number, path)
    return dict(sorted(found.items(), reverse=True))


def next_version(taken: Iterable[int]) -> int:
    """Gives the number of a version that is pushed now.

    Numbers are seconds since 1970, as TFX counts versions, and greater than
    all that are taken, also after the clock went back.

    Args:
        taken: the numbers that there are.

    Raises:
        ValueError: the greatest number there can be is taken.
    """
    number = max([int(time.time()), *(each + 1 for each in taken)])
    if number > MAX_VERSION:
        raise ValueError(
            f"The newest version must be less than {MAX_VERSION}, for another "
            f"to follow it. Received: {number - 1}."
        )
    return number


def file_stamps(path: pathlib.Path) -> tuple:
    """Returns name, size and time of each file in a folder, to be compared."""
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
