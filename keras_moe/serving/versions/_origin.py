"""From which model a version was pushed, noted in its folder."""

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable
from collections.abc import Mapping
from functools import partial
from typing import IO
from typing import NamedTuple

from keras_moe.atomic_file import atomic_file
from keras_moe.model_folder import ORIGIN

_BLOCK = 1 << 20


class Origin(NamedTuple):
    """From which model a version was pushed.

    Attributes:
        model: identity of the model, such as the URI of its artifact. Two
            models may have one: URIs repeat where metadata begin anew.
        digest: of the files, by `content_digest`; `None` where an earlier
            version of keras_moe pushed.
        begun: when the push began, in seconds since 1970; 0 where it is not
            noted.
    """

    model: str
    digest: str | None = None
    begun: int = 0

    @classmethod
    def now(cls, model: str, digest: str) -> "Origin":
        """Gives the origin of a push that begins."""
        return cls(model, digest, int(time.time()))

    @classmethod
    def parse(cls, text: str) -> "Origin | None":
        """Reads `text`; gives `None` for what some other tool wrote."""
        try:
            document = json.loads(text)
            origin = cls(
                document["origin"],
                document.get("digest"),
                document.get("begun", 0),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return origin if type(origin.begun) is int else None

    def text(self) -> str:
        """Gives the content of the file."""
        document = {
            "origin": self.model,
            "digest": self.digest,
            "begun": self.begun,
        }
        return json.dumps(document) + "\n"


def write_origin(folder: str | os.PathLike, origin: Origin) -> None:
    """Notes in a local version which model it was pushed from."""
    path = pathlib.Path(folder, ORIGIN)
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as file:
        file.write_text(origin.text())


def read_origin(folder: str | os.PathLike) -> Origin | None:
    """Gives the origin of a local version; `None` where none is noted."""
    try:
        return Origin.parse(pathlib.Path(folder, ORIGIN).read_text())
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def local_digest(folder: pathlib.Path) -> str:
    """Gives the `content_digest` of a model in a local folder."""
    return content_digest(
        {
            path.relative_to(folder).as_posix(): partial(_open, path)
            for path in folder.rglob("*")
            if path.is_file()
        }
    )


def _open(path: pathlib.Path) -> IO[bytes]:
    return path.open("rb")


def content_digest(files: Mapping[str, Callable[[], IO[bytes]]]) -> str:
    """Gives the SHA-256 of a model's files, without the note of its origin.

    Args:
        files: name, relative to the model's folder, to what opens the file.
    """
    digest = hashlib.sha256()
    for name in sorted(files.keys() - {str(ORIGIN)}):
        # A digest of each: bytes that move from one file to the next count.
        content = hashlib.sha256()
        with files[name]() as file:
            while block := file.read(_BLOCK):
                content.update(block)
        digest.update(f"{name}\0".encode() + content.digest())
    return digest.hexdigest()
