"""The choice between random features and exact attention."""

from keras import ops

from keras_moe.backend import shapes_must_be_static
from keras_moe.layers.attention._random_features import RandomFeatures
from keras_moe.ops.linear_attention._bidirectional import (
    bidirectional_attention,
)
from keras_moe.ops.linear_attention._causal import causal_attention
from keras_moe.ops.linear_attention._exact_attention import exact_attention
from keras_moe.ops.linear_attention._segments import segment_attention
from keras_moe.types import Tensor


def attend(
    features: RandomFeatures,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    segment_ids: Tensor | None = None,
    *,
    causal: bool,
    exact_below: int | None,
) -> Tensor:
    """Returns the attended values of all heads, `[b, n, g, t, value_dim]`.

    Args:
        features: the random features.
        queries: float32 `[b, n, g, t, dim]`.
        keys: float32 `[b, n, 1, s, dim]`.
        values: float32 `[b, n, 1, s, value_dim]`.
        visible: bool `[b, 1, 1, s]`, false for hidden keys; `None` hides none.
        segment_ids: int `[b, 1, 1, t]` of packed sequences.
        causal: whether positions are hidden from earlier ones.
        exact_below: with fewer keys than this, and not causal, attention is
            exact.
    """

    def by_features() -> Tensor:
        inputs = (queries, keys, values, visible, features.map())
        if causal:
            return causal_attention(*inputs, segment_ids)[0].mean()
        if segment_ids is not None:
            return segment_attention(*inputs, segment_ids).mean()
        return bidirectional_attention(*inputs)

    def exactly() -> Tensor:
        return exact_attention(queries, keys, values, visible, segment_ids)

    length = ops.shape(keys)[3]
    if causal or exact_below is None:
        return by_features()
    if isinstance(length, int):
        return exactly() if length < exact_below else by_features()
    if shapes_must_be_static():
        # XLA compiles both branches of a condition, and exact attention fails
        # at lengths for which it would never be chosen.
        return by_features()
    return ops.cond(length < exact_below, exactly, by_features)
