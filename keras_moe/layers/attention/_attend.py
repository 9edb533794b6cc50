"""The choice between random features and exact attention."""

from collections.abc import Callable

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
from keras_moe.validation import check_size

AUTO = "auto"
# Lengths were measured up to here; memory of pairs grows with their square.
_LONGEST_MEASURED = 2048


def break_even(
    exact_below: int | str | None, features: RandomFeatures
) -> int | None:
    """Returns from how many keys on random features are used.

    On two CPU cores random features of heads of 16 to 64 became faster than
    softmax at about four keys a feature, to a factor of two, in training and
    outside of it (`docs/long_sequences.md`).

    Args:
        exact_below: `"auto"`, a number of keys, or `None`: from the first key.
        features: the random features.

    Raises:
        ValueError: if `exact_below` is none of these, or a number for features
            that do not approximate softmax.
    """
    if exact_below == AUTO:
        if not features.is_softmax:
            return None
        return min(4 * features.num_random_features, _LONGEST_MEASURED)
    if isinstance(exact_below, str):
        raise ValueError(
            "`exact_below` must be 'auto', a positive integer or None. "
            f"Received: exact_below={exact_below!r}."
        )
    check_size(exact_below=exact_below)
    if exact_below is not None and not features.is_softmax:
        raise ValueError(
            "`exact_below` is for feature maps that approximate softmax. "
            f"Received: exact_below={exact_below}, "
            f"feature_map={features.feature_map!r}."
        )
    return exact_below


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

    short = False if causal else is_short(keys, exact_below)
    return either(short, exactly, by_features)


def is_short(keys: Tensor, exact_below: int | None) -> bool | Tensor:
    """Says whether attention to keys is exact, a bool scalar.

    Args:
        keys: `[b, n, 1, s, dim]`.
        exact_below: from how many keys on it is not; `None` for the first.
    """
    if exact_below is None:
        return False
    length = ops.shape(keys)[3]
    if not isinstance(length, int) and shapes_must_be_static():
        # XLA compiles both branches of a condition, and exact attention fails
        # at lengths for which it would never be chosen.
        return False
    return length < exact_below


def either(
    condition: bool | Tensor,
    first: Callable[[], Tensor],
    second: Callable[[], Tensor],
) -> Tensor:
    """Returns `first()` where the condition is true, else `second()`."""
    if isinstance(condition, bool):
        return first() if condition else second()
    return ops.cond(condition, first, second)
