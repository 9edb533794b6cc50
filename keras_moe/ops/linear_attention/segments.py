"""Every query sees the keys of its own segment, before and after."""

from keras import ops

from keras_moe.ops.linear_attention.causal import causal_attention
from keras_moe.ops.linear_attention.feature_map import FeatureMap
from keras_moe.ops.linear_attention.partial_attention import PartialAttention
from keras_moe.types import Tensor


def segment_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    log_weights: Tensor,
    visible: Tensor,
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
        log_weights: `[b, n, 1, t]`, a log-weight of each key.
        visible: bool `[b, 1, 1, t]`, false for hidden keys.
        feature_map: the features.
        segment_ids: int `[b, 1, 1, t]`; equal ones are adjacent.

    Returns:
        What the queries have gathered.
    """
    arrays = (queries, keys, values, log_weights, visible)
    before, _ = causal_attention(*arrays, feature_map, segment_ids)
    after, _ = causal_attention(
        *(ops.flip(x, axis=3) for x in arrays),
        feature_map,
        ops.flip(segment_ids, axis=3),
        strict=True,
    )
    after = PartialAttention(*(ops.flip(x, axis=3) for x in after))
    return before.merge(after)
