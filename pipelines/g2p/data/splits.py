"""Which split a word belongs to: a pure function of the word."""

import hashlib

# The calibration split is for the early-exit certificate alone: never for
# training, distillation, early stopping or evaluation.
SPLITS = ("train", "validation", "calibration", "test")
DEFAULT_FRACTIONS = (0.85, 0.05, 0.05, 0.05)

_HASH_BYTES = 8


def position(word: str, salt: str = "") -> float:
    """Places a word in `[0, 1)`, uniformly and for ever in the same place."""
    digest = hashlib.sha256((salt + word).encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") / 256**_HASH_BYTES


def split_of(
    word: str, fractions: tuple[float, ...] = DEFAULT_FRACTIONS
) -> str:
    """Returns the split of a word.

    It depends on nothing but the word: adding a word to the dictionary moves
    no other word, and all pronunciations of one word stay together.

    Args:
        word: `str`.
        fractions: The share of each of `SPLITS`; they sum to 1.

    Returns:
        One of `SPLITS`.
    """
    place = position(word)
    upper = 0.0
    for name, fraction in zip(SPLITS, fractions, strict=True):
        upper += fraction
        if place < upper:
            return name
    return SPLITS[-1]  # rounding of the sum
