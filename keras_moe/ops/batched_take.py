"""Gathering rows of each group by that group's own indices."""

from keras import ops

from keras_moe.types import Tensor


def batched_take(values: Tensor, index: Tensor) -> Tensor:
    """Returns `values[g, index[g, ...]]` for each group g.

    One flat gather: `take_along_axis` would first copy the indices for every
    element of a row.

    Args:
        values: `[groups, n, ...]`.
        index: int32 `[groups, ...]`, each in `[0, n)`.

    Returns:
        `[groups, ..., ...]`: the shape of `index`, then that of a row.
    """
    groups, n = ops.shape(values)[:2]
    row = tuple(values.shape[2:])
    offset = ops.arange(groups, dtype="int32") * n
    offset = ops.reshape(offset, (-1,) + (1,) * (len(index.shape) - 1))
    return ops.take(ops.reshape(values, (-1, *row)), index + offset, axis=0)
