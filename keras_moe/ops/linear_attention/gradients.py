"""Gradients of the two steps of linear attention.

By hand, so that features are computed again instead of kept. Scales are
constants: they cancel in the quotient.
"""

from keras import ops

from keras_moe.ops.linear_attention.state import LinearAttentionState
from keras_moe.types import Tensor


def read_gradient(
    state: LinearAttentionState,
    features: Tensor,
    d_numerator: Tensor,
    d_denominator: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of log-queries, `weights`, `weighted_values`.

    Args:
        state: what was read.
        features: what `state.query_features` returned, `[..., t, features]`.
        d_numerator: upstream, `[..., t, value_dim]`.
        d_denominator: upstream, `[..., t]`.
    """
    d_denominator = d_denominator[..., None]
    d_features = ops.matmul(
        d_numerator, ops.swapaxes(state.weighted_values, -1, -2)
    )
    d_features = d_features + d_denominator * state.weights[..., None, :]
    transposed = ops.swapaxes(features, -1, -2)
    return (
        d_features * features,
        ops.matmul(transposed, d_denominator)[..., 0],
        ops.matmul(transposed, d_numerator),
    )


def summary_gradient(
    features: Tensor,
    values: Tensor,
    d_weights: Tensor,
    d_weighted_values: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of log-keys and values.

    Args:
        features: scaled features of keys, `[..., t, features]`.
        values: `[..., t, value_dim]`.
        d_weights: upstream, `[..., features]`.
        d_weighted_values: upstream, `[..., features, value_dim]`.
    """
    d_features = ops.matmul(values, ops.swapaxes(d_weighted_values, -1, -2))
    d_features = d_features + d_weights[..., None, :]
    return d_features * features, ops.matmul(features, d_weighted_values)
