"""Ids of tokens: inside the vocabulary, left out, or wrong."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_moe.backend import value_now
from keras_moe.types import Tensor

# The label that many libraries give to positions without a target.
IGNORE_ID = -100
# The greatest id up to which a dtype rounds none.
_EXACT = {
    "float16": 2**11,
    "bfloat16": 2**8,
    "float32": 2**24,
    "float64": 2**53,
}


class OutsideVocabularyError(ValueError):
    """An id is neither in the vocabulary nor one that is left out."""


class TokenIds(NamedTuple):
    """Ids that can be looked up, and which of them mean something.

    Attributes:
        ids: int32, 0 wherever the id is not in the vocabulary.
        inside: bool, whether it is.
        left_out: bool, whether it is one of those that count nowhere.
    """

    ids: Tensor
    inside: Tensor
    left_out: Tensor

    @property
    def wrong(self) -> Tensor:
        """Bool: neither in the vocabulary nor left out.

        Never true where values are known; in a graph, whoever computes with
        such an id must make the result NaN.
        """
        return ops.logical_not(ops.logical_or(self.inside, self.left_out))


def read_ids(
    ids: Tensor,
    vocabulary_size: int | None,
    left_out: tuple[int | None, ...] = (),
    name: str = "labels",
) -> TokenIds:
    """Tells ids of the vocabulary from those left out, and from wrong ones.

    A one-hot of a wrong id is all zero, so that it costs nothing and counts
    nevertheless; a table read with it gives another token's row, an error, or
    zeros, by device. So wrong ids are found before they are used: numbers
    outside, fractions (which a cast would cut off), and integers of more than
    32 bits (which it would wrap).

    Args:
        ids: int, or float as Keras hands labels over.
        vocabulary_size: number of ids; `None` for any that is not negative.
        left_out: ids that count nowhere, wherever they lie; `None` for none.
        name: what an error calls them.

    Raises:
        OutsideVocabularyError: if there is a wrong id and values are known.
        ValueError: if the dtype rounds ids of this vocabulary.
    """
    ids = ops.convert_to_tensor(ids)
    last = 2**31 - 1 if vocabulary_size is None else vocabulary_size - 1
    ignored = [each for each in left_out if each is not None]
    dtype = keras.backend.standardize_dtype(ids.dtype)
    if dtype in _EXACT and vocabulary_size and last > _EXACT[dtype]:
        raise ValueError(
            f"`{name}` must be integers: {dtype} rounds ids above "
            f"{_EXACT[dtype]}. Received: {dtype}, and {vocabulary_size} ids."
        )
    value = value_now(ids)
    if value is not None:
        _refuse_wrong(value, last, ignored, name)
    whole = ops.ones_like(ids, dtype="bool")
    if dtype in _EXACT:
        # False for NaN, and for what an int32 cannot hold.
        whole = (ops.round(ids) == ids) & (ops.abs(ids) < 2.0**31)
        ids = ops.cast(ops.where(whole, ids, ops.zeros_like(ids)), "int32")
    elif dtype != "int32":
        ids = ops.cast(ids, "int64")
    omitted = ops.zeros_like(whole)
    for each in ignored:
        omitted = omitted | (whole & (ids == each))
    inside = whole & (ids >= 0) & (ids <= last)
    safe = ops.cast(ops.where(inside, ids, ops.zeros_like(ids)), "int32")
    return TokenIds(safe, inside, omitted)


def is_left_out(labels: Tensor, pad_id: int) -> Tensor:
    """Returns bool: whether a label is padding or `IGNORE_ID`."""
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype not in _EXACT and dtype != "int32":
        labels = ops.cast(labels, "int64")  # uint8 would refuse -100
    return (labels == pad_id) | (labels == IGNORE_ID)


def _refuse_wrong(
    value: np.ndarray, last: int, ignored: list[int], name: str
) -> None:
    # Negated, since NaN compares as false.
    wrong = ~((value >= 0) & (value <= last) & (value == np.round(value)))
    wrong &= ~np.isin(value, ignored)
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    also = " or ".join(str(each) for each in ignored)
    also = f", or {also} to be left out" if also else ""
    raise OutsideVocabularyError(
        f"`{name}` must be ids from 0 to {last}{also}. Received: "
        f"{value[index]} at {index}, {int(wrong.sum())} of {value.size} wrong."
    )
