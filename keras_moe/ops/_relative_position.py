"""T5's buckets of relative distance."""

import math

from keras import ops

from keras_moe.types import Tensor


def relative_position_bucket(
    relative_position: Tensor,
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Tensor:
    """Maps `key position - query position` to a bucket.

    Half of the buckets hold small distances exactly, the other half grow
    logarithmically up to `max_distance`, beyond which all share the last.
    When `bidirectional`, one half of the buckets serves keys after the query;
    otherwise those all fall into bucket 0.

    Source: Exploring the Limits of Transfer Learning, arXiv:1910.10683,
    section 2.1.

    Args:
        relative_position: int tensor of any shape.
        bidirectional: whether keys may come after the query.
        num_buckets: number of buckets in all.
        max_distance: distance from which the last bucket is used.

    Returns:
        int32 tensor of the same shape, in `[0, num_buckets)`.

    Example:

    >>> distance = np.array([-9, -1, 0, 1, 9])
    >>> keras_moe.ops.relative_position_bucket(distance).numpy()
    array([ 8,  1,  0, 17, 24], dtype=int32)
    """
    relative_position = ops.cast(relative_position, "int32")
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = ops.cast(relative_position > 0, "int32") * num_buckets
        distance = ops.abs(relative_position)
    else:
        distance = ops.maximum(-relative_position, 0)
    exact = num_buckets // 2
    scaled = ops.log(ops.cast(ops.maximum(distance, 1), "float32") / exact)
    scaled = scaled / math.log(max_distance / exact) * (num_buckets - exact)
    far = ops.minimum(exact + ops.cast(scaled, "int32"), num_buckets - 1)
    return offset + ops.where(distance < exact, distance, far)
