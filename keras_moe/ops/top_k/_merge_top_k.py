"""The best of what several parts of a database chose."""

import numpy as np
from keras import ops

from keras_moe.ops._batched_take import batched_take
from keras_moe.types import Tensor
from keras_moe.validation import check_size


def merge_top_k(
    values: Tensor, index: Tensor, k: int, shard_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the `k` best of candidates that were chosen apart.

    Exact: where each shard of a database hands over its own `k` best, the
    result is that of the whole. Equal values come in the order of their
    indices, whatever order they are handed over in.

    Args:
        values: floating point `[..., candidates]`; with `shard_size`
            `[..., shards, candidates]`.
        index: int of the same shape: where each lies in the database, all
            different; with `shard_size`, where each lies in its shard. A
            negative one stands for no candidate, and its value must be minus
            infinity.
        k: how many to return.
        shard_size: number of rows of each shard; `None` for indices into the
            whole database.

    Returns:
        Values `[..., k]`, the greatest first, and int32 indices `[..., k]`
        into the whole database; minus infinity and -1 beyond the candidates.

    Raises:
        ValueError: if a size is not positive, or the shapes differ.

    Example:

    >>> values = np.array([[0.9, 0.3], [0.9, 0.8]])  # of two shards
    >>> index = np.array([[4, 0], [1, 2]])
    >>> best, where = keras_moe.ops.merge_top_k(values, index, 3, shard_size=5)
    >>> print(np.array(best), np.array(where))
    [0.9 0.9 0.8] [4 6 7]
    """
    check_size(k=k, shard_size=shard_size)
    values = ops.convert_to_tensor(values)
    index = ops.cast(index, "int32")
    if tuple(values.shape) != tuple(index.shape) or (
        len(values.shape) < (1 if shard_size is None else 2)
    ):
        raise ValueError(
            "`values` and `index` must have one shape, `[..., candidates]`, "
            "with `shard_size` `[..., shards, candidates]`. Received: "
            f"values.shape={tuple(values.shape)}, "
            f"index.shape={tuple(index.shape)}, shard_size={shard_size}."
        )
    if shard_size is not None:
        *lead, shards, candidates = ops.shape(values)
        first = ops.arange(shards, dtype="int32") * shard_size
        index = ops.where(index < 0, -1, index + ops.expand_dims(first, 1))
        flat = (*lead, shards * candidates)
        values, index = ops.reshape(values, flat), ops.reshape(index, flat)
    if len(values.shape) == 1:
        values, index = ops.expand_dims(values, 0), ops.expand_dims(index, 0)
        best, where = _best(values, index, k)
        return best[0], where[0]
    return _best(values, index, k)


def _best(values: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # `top_k` puts the first of equals first: sorted by index, the lowest.
    groups = len(values.shape) - 1
    order = ops.cast(ops.argsort(index, axis=-1), "int32")
    index = batched_take(index, order, groups)
    values, place = top_k_or_fewer(batched_take(values, order, groups), k)
    safe = ops.maximum(place, 0)
    return values, ops.where(place < 0, -1, batched_take(index, safe, groups))


def top_k_or_fewer(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the best of scores without NaN, which may be fewer than `k`.

    Args:
        x: `[..., n]`; `n` may be unknown while a graph is traced.
        k: how many to return.

    Returns:
        `[..., k]` values and int32 indices, ties by index; minus infinity and
        -1 where there are no more above minus infinity.
    """
    if x.shape[-1] is None or x.shape[-1] < k:
        filler = ops.full_like(x[..., :1], -np.inf)
        x = ops.concatenate([x, ops.repeat(filler, k, axis=-1)], axis=-1)
    values, index = ops.top_k(x, k)
    return values, ops.where(values > -np.inf, ops.cast(index, "int32"), -1)
