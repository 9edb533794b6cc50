"""Gathering rows of each group by that group's own indices."""

import math

from keras import ops

from keras_moe.backend import gather_rows
from keras_moe.sharding import active_sharding
from keras_moe.types import Tensor


def batched_take(
    values: Tensor, index: Tensor, num_group_axes: int = 1
) -> Tensor:
    """Returns `values[g, index[g, ...]]` for each group g.

    One flat gather: `take_along_axis` would first copy the indices for every
    element of a row. Groups that are spread over devices are not flattened.

    Args:
        values: `[groups, n, ...]`.
        index: int32 `[groups, ...]`, each in `[0, n)`.
        num_group_axes: number of leading axes that are groups.

    Returns:
        `[groups, ..., ...]`: the shape of `index`, then that of a row.
    """
    sharding = active_sharding()
    if sharding is not None:
        return sharding.batched_take(values, index, num_group_axes)
    *groups, n = ops.shape(values)[: num_group_axes + 1]
    row = tuple(values.shape[num_group_axes + 1 :])
    flat = ops.reshape(values, (-1, *row))
    if all(isinstance(g, int) for g in groups) and math.prod(groups) == 1:
        return gather_rows(flat, index)
    offset = ops.arange(math.prod(groups), dtype="int32") * n
    inner = len(index.shape) - num_group_axes
    offset = ops.reshape(offset, (*groups, *(1,) * inner))
    return gather_rows(flat, index + offset)
