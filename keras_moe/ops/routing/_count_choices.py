"""How many tokens asked for each expert."""

from keras import ops

from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor


def count_choices(expert_index: Tensor, num_experts: int) -> Tensor:
    """Counts the choices of each expert, group by group.

    By segments, not by a one-hot table: the cost does not grow with the
    number of experts, and of many choices none is spread out in memory.

    Args:
        expert_index: int `[groups, tokens, choices]`; `num_experts` marks a
            choice that was not made, as any other number that is no
            expert's does.
        num_experts: number of experts.

    Returns:
        float32 `[groups, experts]`; without a gradient.

    Example:

    >>> chosen = np.array([[[0, 1], [0, 3]]])  # 3: not chosen
    >>> keras_moe.ops.count_choices(chosen, num_experts=3).numpy()
    array([[2., 1., 0.]], dtype=float32)
    """
    if is_sharded():
        # One-hot, since counting by segments is a scatter, which DTensor may
        # write to wrong places without an error.
        chosen = ops.one_hot(expert_index, num_experts, dtype="float32")
        return ops.sum(chosen, axis=(-3, -2))
    groups = ops.shape(expert_index)[0]
    # Each group has one segment more, for the choices that were not made.
    first = ops.arange(groups, dtype="int32") * (num_experts + 1)
    index = ops.cast(expert_index, "int32")
    # Beyond its range an index would count for another group.
    exists = ops.logical_and(index >= 0, index < num_experts)
    index = ops.where(exists, index, num_experts)
    index = index + ops.reshape(first, (-1, 1, 1))
    index = ops.reshape(index, (-1,))
    counts = ops.segment_sum(
        ops.ones_like(index, dtype="float32"),
        index,
        groups * (num_experts + 1),
    )
    return ops.reshape(counts, (groups, num_experts + 1))[:, :num_experts]
