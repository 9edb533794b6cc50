"""What candidates are called: integers, or strings as rows of bytes."""

from typing import Any
from typing import NamedTuple

import numpy as np

# What an answer consists of: the number of a row, an integer, a string.
KINDS = ("row", "integer", "string")


class Identifiers(NamedTuple):
    """Names of candidates, in the bytes they are kept in.

    Attributes:
        kind: one of `KINDS`.
        array: `[candidates]` of integers; uint8 `[candidates, width]`, strings
            in UTF-8 filled up with zeros.
    """

    kind: str
    array: np.ndarray

    @property
    def width(self) -> int | None:
        """Bytes of the longest string; `None` for integers."""
        return self.array.shape[1] if self.kind == "string" else None


def read_identifiers(ids: Any, count: int) -> Identifiers:
    """Checks names given by a user.

    Args:
        ids: integers or strings, one a candidate.
        count: number of candidates.

    Raises:
        ValueError: if there are more or fewer, they are neither integers nor
            strings, two are equal, or one could not be told from no answer or
            could not be kept.
    """
    given = np.asarray(ids)
    if given.shape != (count,):
        raise ValueError(
            "`candidate_ids` must have one identifier for each of the "
            f"{count} candidates. Received: shape={given.shape}."
        )
    if given.dtype.kind in "iu":
        names: list = given.tolist()
        _refuse_repeated(names)
        for name in (min(names), max(names)):
            if not -(2**63) <= name < 2**63:
                raise ValueError(
                    "`candidate_ids` must be integers of 64 bits. Received: "
                    f"{name}."
                )
        if -1 in names:
            raise ValueError(
                "`candidate_ids` must not be -1, which stands for no answer. "
                f"Received: -1 at {names.index(-1)}."
            )
        return Identifiers("integer", given.astype("int64"))
    names = [_encoded(name, i) for i, name in enumerate(given.tolist())]
    _refuse_repeated(names)
    width = max(map(len, names))
    table = np.array(names, f"S{width}").view("uint8").reshape(count, width)
    return Identifiers("string", table)


def widened(table: np.ndarray, width: int) -> np.ndarray:
    """Returns a table of bytes, filled up with zeros to a width."""
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))


def _encoded(name: Any, index: int) -> bytes:
    if not isinstance(name, str | bytes):
        raise ValueError(
            "`candidate_ids` must be integers, or strings. Received: "
            f"{name!r} at {index}."
        )
    encoded = name.encode() if isinstance(name, str) else name
    if not encoded or b"\0" in encoded:
        raise ValueError(
            "`candidate_ids` must not be empty, which stands for no answer, "
            f"nor hold a zero byte. Received: {name!r} at {index}."
        )
    return encoded


def _refuse_repeated(names: list) -> None:
    first: dict[Any, int] = {}
    for index, name in enumerate(names):
        before = first.setdefault(name, index)
        if before != index:
            raise ValueError(
                "`candidate_ids` must be different. Received: "
                f"{name!r} at {before} and at {index}."
            )
