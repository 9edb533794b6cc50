"""The best of scores, wherever the columns lie."""

from keras import ops

from keras_moe.ops._constrain import constrain
from keras_moe.ops.top_k._choose_bins import Bins
from keras_moe.ops.top_k._merge_top_k import merge_top_k
from keras_moe.ops.top_k._partial_reduce_top_k import exact_top_k
from keras_moe.ops.top_k._partial_reduce_top_k import partial_reduce_top_k
from keras_moe.sharding import active_sharding
from keras_moe.types import Tensor

# The mesh axis along which rows of a database lie.
ROWS_AXIS = "model"


def find_best(
    scores: Tensor, k: int, bins: Bins | None, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the `k` best columns; each device looks through its own.

    Only what a device chose is gathered, and merged exactly.

    Args:
        scores: float32 `[..., columns]`.
        k: how many.
        bins: how to reduce; `None` for an exact search.
        mask: bool `[columns]`.

    Returns:
        `[..., k]` values and int32 columns, as `partial_reduce_top_k` does.
    """
    sharding = active_sharding()
    shards = 1 if sharding is None else sharding.axis_sizes.get(ROWS_AXIS, 1)
    if shards == 1:
        return _reduce(scores, k, bins, mask, shards)
    *lead, columns = ops.shape(scores)
    size = columns // shards
    between = (None,) * (len(lead) - 1)
    scores = constrain(scores, "batch", *between, ROWS_AXIS)
    parts = ops.reshape(scores, (*lead, shards, size))
    parts = constrain(parts, "batch", *between, ROWS_AXIS, None)
    mask = ops.reshape(mask, (shards, size))
    chosen = _reduce(parts, min(k, size), bins, mask, shards)
    values, index = (
        constrain(each, "batch", *between, None, None) for each in chosen
    )
    return merge_top_k(values, index, k, shard_size=size)


def _reduce(
    scores: Tensor, k: int, bins: Bins | None, mask: Tensor, shards: int
) -> tuple[Tensor, Tensor]:
    if bins is None:
        return exact_top_k(scores, k, mask)
    # Together the shards have as many bins as one device would.
    each = max(-(-bins.num_bins // shards), -(-k // bins.num_per_bin))
    return partial_reduce_top_k(scores, k, each, bins.num_per_bin, mask)
