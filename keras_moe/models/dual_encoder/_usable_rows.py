"""Rows that cannot be embedded, kept away from those that can."""

from typing import Any

import keras
from keras import ops

from keras_moe.types import Tensor


def usable_rows(inputs: Any) -> tuple[Any, Tensor | None]:
    """Finds rows that are not finite, or whose mask has nothing in it.

    The gradient of such a row is a product of 0 and NaN in the weights that it
    went through, and would spoil them for all: the row is made 0 before.

    Args:
        inputs: what an encoder reads, in any structure; tensors have rows
            first. Masks are bool tensors of names that end in "mask": others
            are features, and may be false.

    Returns:
        The inputs, floats of such rows replaced by 0; and bool `[rows]`, false
        for those rows, `None` where none can be told.
    """
    usable = None
    for path, x in keras.tree.flatten_with_path(inputs):
        name = str(path[-1]) if path else ""
        found = _usable(x, name.endswith("mask"))
        if found is not None:
            usable = found if usable is None else usable & found
    if usable is None:
        return inputs, None
    return keras.tree.map_structure(
        lambda x: _zeroed(x, usable), inputs
    ), usable


def _usable(x: Tensor, is_mask: bool) -> Tensor | None:
    dtype = keras.backend.standardize_dtype(x.dtype)
    axes = tuple(range(1, len(x.shape)))
    if dtype == "bool" and is_mask and axes:
        return ops.any(x, axis=axes)
    if keras.backend.is_float_dtype(dtype):
        return ops.all(ops.isfinite(x), axis=axes) if axes else ops.isfinite(x)
    return None


def _zeroed(x: Tensor, usable: Tensor) -> Tensor:
    if not keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    ):
        return x
    for _ in range(len(x.shape) - 1):
        usable = ops.expand_dims(usable, -1)
    return ops.where(usable, x, ops.zeros_like(x))
