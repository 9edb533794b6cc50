"""Softmax attention, pair by pair."""

from keras import ops

from keras_moe.types import Tensor


def exact_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Attends with `softmax(query . key / sqrt(dim))`.

    Rows that see no key give zeros.

    Args:
        queries: `[b, n, g, t, dim]`.
        keys: `[b, n, 1, s, dim]`.
        values: `[b, n, 1, s, value_dim]`.
        visible: bool `[b, 1, 1, s]`, false for hidden keys; `None` hides none.
        segment_ids: int `[b, 1, 1, s]`, of queries and keys alike; a query
            sees keys of its own segment.

    Returns:
        `[b, n, g, t, value_dim]`.
    """
    scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
    scores = scores * queries.shape[-1] ** -0.5
    if visible is None:
        visible = ops.ones_like(keys[:, :1, :, :, 0], dtype="bool")
    seen = visible[..., None, :]
    if segment_ids is not None:
        seen = seen & (segment_ids[..., :, None] == segment_ids[..., None, :])
    scores = ops.where(seen, scores, -1e30)
    largest = ops.max(scores, axis=-1, keepdims=True, initial=-1e30)
    largest = ops.stop_gradient(largest)
    weights = ops.where(seen, ops.exp(scores - largest), 0.0)
    total = ops.sum(weights, axis=-1, keepdims=True)
    total = ops.where(total <= 0.0, 1.0, total)
    return ops.matmul(weights / total, values)
