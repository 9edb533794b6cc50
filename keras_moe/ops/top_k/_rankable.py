"""Scores that a sort can rank: without NaN, and without what is masked."""

import keras
import numpy as np
from keras import ops

from keras_moe.types import Tensor


def rankable(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns scores without NaN, and which rows had one.

    A sort that meets NaN returns any order, and a maximum may skip it or be
    it, by device. So NaN is taken out first, and marked.

    Args:
        x: floating point `[..., n]`.
        mask: bool, of a shape that broadcasts to that of `x`, or `None`.

    Returns:
        The scores, minus infinity where they are masked or NaN, and bool
        `[..., 1]`, true for rows with a NaN that is not masked.

    Raises:
        ValueError: if `x` is not floating point, or has no axis.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "float" not in dtype or not len(x.shape):
        raise ValueError(
            "`x` must be scores in floating point, `[..., n]`. Received: "
            f"x of dtype {dtype} and shape {tuple(x.shape)}."
        )
    if mask is not None:
        x = ops.where(ops.cast(mask, "bool"), x, -np.inf)
    wrong = ops.isnan(x)
    broken = ops.any(wrong, axis=-1, keepdims=True)
    return ops.where(wrong, -np.inf, x), broken


def mark_rows(
    values: Tensor, index: Tensor, broken: Tensor
) -> tuple[Tensor, Tensor]:
    """Makes rows with a NaN come out as NaN and -1, never as an answer."""
    return ops.where(broken, np.nan, values), ops.where(broken, -1, index)
