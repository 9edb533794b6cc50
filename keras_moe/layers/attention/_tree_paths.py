"""Paths through a decision tree, and means over what shares them.

Axes: b batch, n heads, t positions, l leaves, d values.
"""

from keras import ops

from keras_moe.types import Tensor


def leaf_membership(decisions: Tensor, grown: Tensor) -> Tensor:
    """Returns `[b, n, t, l]`: 1 in the leaf that a position comes to, else 0.

    Args:
        decisions: `[b, n, t, l - 1]`, of each node; level by level from the
            root, from left to right. Positive goes right.
        grown: int scalar; at levels from this on all go left.
    """
    hard = ops.cast(decisions > 0, decisions.dtype)
    soft = ops.sigmoid(decisions)
    # Exactly 0 or 1, with the gradient of the sigmoid.
    right = hard + (soft - ops.stop_gradient(soft))
    member = ops.ones_like(right[..., :1])
    level, nodes = 0, 1
    while nodes <= decisions.shape[-1]:
        here = right[..., nodes - 1 : 2 * nodes - 1]
        here = here * ops.cast(level < grown, here.dtype)
        both = ops.stack([member * (1 - here), member * here], axis=-1)
        member = ops.reshape(both, (*ops.shape(both)[:-2], 2 * nodes))
        level, nodes = level + 1, 2 * nodes
    return member


def path_attention(
    of_queries: Tensor, of_keys: Tensor, values: Tensor, level_weights: Tensor
) -> Tensor:
    """Returns `[b, n, t, d]`, weighted means over the levels of paths.

    Args:
        of_queries: `[b, n, t, l]`, see `leaf_membership`.
        of_keys: `[b, n, s, l]`, zeros for a key that is not seen.
        values: `[b, n, s, d]`.
        level_weights: `[n, levels]`, from the root on.
    """
    batch, heads, _, leaves = ops.shape(of_keys)
    dim = values.shape[-1]
    sums = ops.matmul(ops.swapaxes(of_keys, -1, -2), values)  # [b, n, l, d]
    counts = ops.sum(of_keys, axis=-2)  # [b, n, l]
    total = weight = 0.0
    for level in range(level_weights.shape[-1]):
        nodes, below = 2**level, leaves // 2**level
        of_nodes = ops.sum(
            ops.reshape(sums, (batch, heads, nodes, below, dim)), axis=3
        )
        size = ops.sum(
            ops.reshape(counts, (batch, heads, nodes, below)), axis=3
        )
        has_keys = size > 0.5
        mean = of_nodes / ops.expand_dims(ops.where(has_keys, size, 1.0), -1)
        # [n, 1], and [b, n, nodes] with what has no keys left out
        share = ops.expand_dims(level_weights[:, level], -1)
        share = share * ops.cast(has_keys, mean.dtype)
        total = total + ops.repeat(
            ops.expand_dims(share, -1) * mean, below, axis=2
        )
        weight = weight + ops.repeat(share, below, axis=2)
    of_leaves = total / ops.expand_dims(ops.where(weight > 0, weight, 1.0), -1)
    return ops.matmul(of_queries, of_leaves)


def leaf_attention(
    of_queries: Tensor, of_keys: Tensor, scores: Tensor, values: Tensor
) -> Tensor:
    """Returns `[b, n, t, d]`, softmax over the keys of each query's leaf.

    Args:
        of_queries: `[b, n, t, l]`, see `leaf_membership`.
        of_keys: `[b, n, s, l]`, zeros for a key that is not seen.
        scores: `[b, n, t, s]`.
        values: `[b, n, s, d]`.
    """
    shared = ops.matmul(of_queries, ops.swapaxes(of_keys, -1, -2))
    is_shared = shared > 0.5
    most = ops.where(is_shared, scores, -1e30)
    # Of an empty batch there is a maximum only with `initial`.
    most = ops.max(most, axis=-1, keepdims=True, initial=-1e30)
    above = ops.where(is_shared, scores - ops.stop_gradient(most), 0.0)
    weights = ops.exp(above) * shared
    total = ops.sum(weights, axis=-1, keepdims=True)
    weights = weights / ops.where(total > 0.5, total, 1.0)
    return ops.matmul(weights, values)
