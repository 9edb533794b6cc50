"""Which split an example belongs to: a pure function of its key."""

import hashlib
from collections.abc import Sequence

# The calibration split is for guarantees alone: never for training,
# distillation, early stopping or evaluation.
SPLITS = ("train", "validation", "calibration", "test")
DEFAULT_FRACTIONS = (0.85, 0.05, 0.05, 0.05)

_HASH_BYTES = 8


def hash_position(key: str, salt: str = "") -> float:
    """Places a key in `[0, 1)`, uniformly and for ever in the same place.

    Example:

    >>> round(keras_moe.orchestration.hash_position("hello"), 3)
    0.176

    Args:
        key: what tells an example from others.
        salt: another salt gives places that tell nothing of these.
    """
    digest = hashlib.sha256((salt + key).encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") / 256**_HASH_BYTES


def split_of(key: str, fractions: Sequence[float] = DEFAULT_FRACTIONS) -> str:
    """Returns the split of an example.

    The key alone decides: another example moves no other one, and all that has
    one key stays together.

    Example:

    >>> keras_moe.orchestration.split_of("hello")
    'train'

    Args:
        key: what tells an example from others.
        fractions: the share of each of `SPLITS`; they sum to 1.

    Returns:
        One of `SPLITS`.
    """
    place = hash_position(key)
    upper = 0.0
    for name, fraction in zip(SPLITS, fractions, strict=True):
        upper += fraction
        if place < upper:
            return name
    return SPLITS[-1]  # rounding of the sum
