"""Every query sees the keys of its own segment, before and after."""

from keras import ops

from keras_moe.ops.linear_attention._causal import causal_attention
from keras_moe.ops.linear_attention._feature_map import FeatureMap
from keras_moe.ops.linear_attention._partial_attention import PartialAttention
from keras_moe.types import Tensor


def segment_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    feature_map: FeatureMap,
    segment_ids: Tensor,
) -> PartialAttention:
    """Attends with random features within packed segments.

    Up to the own position forwards, and from there on backwards: linear in
    length, however many segments there are.

    Args:
        queries: `[b, n, g, t, dim]`.
        keys: `[b, n, 1, t, dim]`.
        values: `[b, n, 1, t, value_dim]`.
        visible: bool `[b, 1, 1, t]`, false for hidden keys; `None` hides none.
        feature_map: the features.
        segment_ids: int `[b, 1, 1, t]`; equal ones are adjacent.

    Returns:
        What the queries have gathered.
    """
    before, _ = causal_attention(
        queries, keys, values, visible, feature_map, segment_ids
    )
    after, _ = causal_attention(
        _backwards(queries),
        _backwards(keys),
        _backwards(values),
        None if visible is None else _backwards(visible),
        feature_map,
        _backwards(segment_ids),
        strict=True,
    )
    return before.merge(PartialAttention(*map(_backwards, after)))


def _backwards(x: Tensor) -> Tensor:
    return ops.flip(x, axis=3)
