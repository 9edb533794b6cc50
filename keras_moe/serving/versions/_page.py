"""What the page of a version says: `assets.extra/page.json`, and its pictures.

Requests and answers do without. A file that cannot be read is left out with a
line in the log, and the page is made from the signatures alone.
"""

import json
import logging
import math
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from keras_moe.model_folder import EXTRA_ASSETS
from keras_moe.model_folder import PAGE
from keras_moe.serving.protocol._signature import Signature

# A server keeps both in memory. Kinds of pictures that can hold no program.
_MOST_BYTES = 4 << 20
PICTURE_KINDS = {
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
_LOG = logging.getLogger(__name__)


class Page(NamedTuple):
    """What the page of a version says.

    Attributes:
        document: content of `page.json`, as `check_page` has it.
        pictures: name of each picture to its content.
    """

    document: Mapping[str, Any]
    pictures: Mapping[str, bytes]


def read_page(
    folder: str | os.PathLike, signatures: Mapping[str, Signature]
) -> Page | None:
    """Reads what the page of a version says.

    Args:
        folder: of the version.
        signatures: of the version.

    Returns:
        The page; `None` if there is none, or none that can be shown, which is
        logged.
    """
    path = pathlib.Path(folder, PAGE)
    if not path.is_file():
        return None
    try:
        document = json.loads(_read(path))
        check_page(document, signatures)
        pictures = read_pictures(folder, document)
    # Lists in lists without end exhaust the parser's stack.
    except (OSError, RecursionError, ValueError) as error:
        _LOG.warning("The page is made without %s: %s", path, error)
        return None
    return Page(document, pictures)


def read_pictures(
    folder: str | os.PathLike, page: Mapping[str, Any]
) -> dict[str, bytes]:
    """Reads the pictures that a page names.

    Args:
        folder: of the version.
        page: that `check_page` has let pass.

    Raises:
        OSError: there is no such file.
        ValueError: one is too large.
    """
    names = [picture["file"] for picture in page.get("pictures", ())]
    return {
        name: _read(pathlib.Path(folder, EXTRA_ASSETS, name)) for name in names
    }


def _read(path: pathlib.Path) -> bytes:
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{path} must have at most {_MOST_BYTES} bytes. Received: "
            f"{path.stat().st_size}."
        )
    return path.read_bytes()


def check_page(page: Any, signatures: Mapping[str, Signature]) -> None:
    """Raises `ValueError` unless a page can be shown.

    Args:
        page: what `keras_moe.serving.write_page` describes.
        signatures: of the model.
    """
    _check_fields("page", page, _PAGE)
    shown = page.get("signatures", signatures)
    _check_known("page['signatures']", shown, signatures)
    for side in ("inputs", "outputs"):
        known = {n for s in shown for n in getattr(signatures[s], side)}
        words = page.get(side, {})
        _check_known(f"page[{side!r}]", words, known)
        for name, fields in words.items():
            label = f"page[{side!r}][{name!r}]"
            _check_fields(label, fields, _SIDES[side])
            for key in ("depth", "scores"):
                _check_known(f"{label}[{key!r}]", [*_given(fields, key)], known)
    for index, picture in enumerate(page.get("pictures", ())):
        label = f"page['pictures'][{index}]"
        _check_fields(label, picture, _PICTURE, required=("file", "alt"))
        _check_picture_name(label, picture["file"])


def _given(fields: Mapping[str, Any], key: str) -> Iterable[Any]:
    return [fields[key]] if key in fields else []


def _check_fields(
    label: str,
    value: Any,
    fields: Mapping[str, "_Rule"],
    required: Iterable[str] = (),
) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"`{label}` must be a dictionary. Received: {value!r}")
    _check_known(label, value, fields)
    for key in required:
        if key not in value:
            raise ValueError(
                f"`{label}` must say {key!r}. Received: {dict(value)!r}"
            )
    for key, each in value.items():
        rule = fields[key]
        if not rule.holds(each):
            raise ValueError(
                f"`{label}[{key!r}]` must be {rule.words}. Received: {each!r}"
            )


def _check_known(label: str, names: Iterable, known: Iterable[str]) -> None:
    known = sorted(known)
    for name in names:
        if name not in known:
            raise ValueError(
                f"`{label}` must name some of {known}. Received: {name!r}"
            )


def _check_picture_name(label: str, name: str) -> None:
    kind = pathlib.PurePosixPath(name).suffix
    # The name is a part of the path by which a browser asks.
    plain = name.isascii() and name.replace("_", "a").replace("-", "a")
    if (
        kind not in PICTURE_KINDS
        or not plain
        or not plain.removesuffix(kind).isalnum()
    ):
        raise ValueError(
            f"`{label}['file']` must be letters, digits, '-' and '_', and end "
            f"with one of {', '.join(PICTURE_KINDS)}. Received: {name!r}"
        )


class _Rule(NamedTuple):
    words: str
    holds: Callable[[Any], bool]


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= 1000


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    # JSON has no word for what is not finite, though Python reads some.
    return isinstance(value, str | int) or (
        isinstance(value, float) and math.isfinite(value)
    )


_TEXT = _Rule("text", lambda value: isinstance(value, str))
_SIZE = _Rule("an integer from 1 to 1000", _is_size)
_NAMES = _Rule(
    "a list of names, at least one",
    lambda value: (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, str) for each in value)
    ),
)
_MAP = _Rule("a dictionary of names", lambda value: isinstance(value, Mapping))
_LIST = _Rule("a list", lambda value: isinstance(value, list))
_VALUE = _Rule("text, a number, a boolean, or a list of such", _is_plain)

_PAGE = {
    "title": _TEXT,
    "description": _TEXT,
    "signatures": _NAMES,
    "inputs": _MAP,
    "outputs": _MAP,
    "pictures": _LIST,
}
_SIDES = {
    "inputs": {"label": _TEXT, "hint": _TEXT, "example": _VALUE, "rows": _SIZE},
    "outputs": {
        "label": _TEXT,
        "depth": _TEXT,
        "layers": _SIZE,
        "scores": _TEXT,
        "hidden_when": _VALUE,
    },
}
_PICTURE = {"file": _TEXT, "title": _TEXT, "alt": _TEXT}
