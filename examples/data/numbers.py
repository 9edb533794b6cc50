"""Numbers spelled out: "1042" and "one thousand forty two", as ids.

The rules are exact, so that each answer is right or wrong.
"""

from typing import NamedTuple

import numpy as np

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
# 0 is padding, 1 the end.
SYMBOLS = ["", "", *"0123456789", *_UNITS, *_TENS, "hundred", "thousand"]
_IDS = {symbol: i for i, symbol in enumerate(SYMBOLS) if symbol}
SOURCE_LENGTH, TARGET_LENGTH = 7, 12


class Pairs(NamedTuple):
    """Sources and targets, int32, padded.

    Attributes:
        sources: `[n, SOURCE_LENGTH]`, digits and an end.
        targets: `[n, TARGET_LENGTH]`, words and an end.
    """

    sources: np.ndarray
    targets: np.ndarray


def load(most: int, seed: int = 0) -> Pairs:
    """Gives `most` numbers below a million, of each length as many.

    Each is drawn by itself, its length first: an even draw below a million has
    one number in a hundred of four digits or fewer, and a model errs on what
    it rarely saw. There are but 1,000 of up to three digits, so that these come
    again and again, also in what is held out.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, SOURCE_LENGTH, most)
    least = np.where(lengths == 1, 0, 10 ** (lengths - 1))
    numbers = rng.integers(least, 10**lengths)
    return Pairs(
        _pad([encode(str(n)) for n in numbers], SOURCE_LENGTH),
        _pad(
            [[_IDS[w] for w in spell(n)] + [1] for n in numbers], TARGET_LENGTH
        ),
    )


def encode(digits: str) -> list[int]:
    """Returns the ids of a number's digits, and of the end."""
    return [_IDS[digit] for digit in digits] + [1]


def decode(ids: np.ndarray) -> str:
    """Returns the words of an answer."""
    return " ".join(SYMBOLS[i] for i in ids if i > 1)


def spell(number: int) -> list[str]:
    """Spells a number below a million."""
    if number >= 1000:
        rest = spell(number % 1000) if number % 1000 else []
        return [*spell(number // 1000), "thousand", *rest]
    if number >= 100:
        rest = spell(number % 100) if number % 100 else []
        return [_UNITS[number // 100], "hundred", *rest]
    if number >= 20:
        rest = [_UNITS[number % 10]] if number % 10 else []
        return [_TENS[number // 10 - 2], *rest]
    return [_UNITS[number]]


def _pad(rows: list[list[int]], length: int) -> np.ndarray:
    padded = np.zeros((len(rows), length), "int32")
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids
    return padded
