"""Draws that depend on a key, and on nothing that happens around it."""

import hashlib
import struct
from collections.abc import Iterable

import numpy as np

from keras_moe.validation import check_seed

_SCALE = 2.0**-53


def draw(key: bytes, seed: int, round: int) -> float:
    """Returns a number between 0 and 1, both left out: a hash of all three.

    Whoever draws, where and how often, draws the same. Equal keys have equal
    draws.

    Args:
        key: of an example.
        seed: of the selection.
        round: of the selection.
    """
    # Of fixed length, and so no key runs into the numbers.
    salt = struct.pack("<qq", seed, round)
    digest = hashlib.blake2b(key, digest_size=8, salt=salt).digest()
    # As many bits as a float64 holds, moved off 0.
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) * _SCALE


def draws(keys: Iterable[bytes], seed: int, round: int) -> np.ndarray:
    """Returns the draw of each key, float64 `[n]`."""
    check_round(seed, round)
    return np.array([draw(key, seed, round) for key in keys], "float64")


def check_round(seed: int, round: int) -> None:
    """Raises `ValueError` unless both are integers that a hash can take."""
    check_seed(seed)
    if not isinstance(round, int | np.integer) or not 0 <= round < 2**32:
        raise ValueError(
            "`round` must be an integer in [0, 2**32). Received: "
            f"round={round!r}."
        )


def as_keys(keys: Iterable[object] | None, size: int) -> list[bytes]:
    """Returns a key for each row; without keys, its number.

    Args:
        keys: bytes, texts or integers.
        size: number of rows.

    Raises:
        ValueError: if a key is missing or of another type, or they are too
            few or too many.
    """
    given = range(size) if keys is None else list(keys)
    if len(given) != size:
        raise ValueError(
            f"`keys` must have one for each of {size} rows. Received: "
            f"{len(given)}."
        )
    return [_bytes(key, row) for row, key in enumerate(given)]


def _bytes(key: object, row: int) -> bytes:
    text = str(key) if isinstance(key, int | np.integer) else key
    name = text.encode() if isinstance(text, str) else text
    if isinstance(name, bytes) and name:
        return name
    raise ValueError(
        "`keys` must be texts, bytes or integers, and none be missing. "
        f"Received: keys[{row}]={key!r}."
    )
