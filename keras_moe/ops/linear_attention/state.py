"""What linear attention remembers of its keys and values."""

from typing import NamedTuple

from keras import ops

from keras_moe.ops.linear_attention.partial_attention import EMPTY
from keras_moe.ops.linear_attention.partial_attention import PartialAttention
from keras_moe.types import Tensor


class LinearAttentionState(NamedTuple):
    """Sums over keys, feature by feature; no larger after a million keys.

    Attributes:
        log_scale: `[..., features]`, the largest log-feature of any key.
        weights: `[..., features]`, the sum over keys of `exp(log-feature -
            log_scale)`; at least 1, or 0 before the first key.
        weighted_values: `[..., features, value_dim]`, the same sum of values.
    """

    log_scale: Tensor
    weights: Tensor
    weighted_values: Tensor

    @classmethod
    def empty(
        cls, leading_shape: tuple, num_features: int, value_dim: int
    ) -> "LinearAttentionState":
        """Returns the state before the first key."""
        weights = ops.zeros((*leading_shape, num_features), dtype="float32")
        values = ops.zeros((*leading_shape, num_features, value_dim), "float32")
        return cls(weights + EMPTY, weights, values)

    @classmethod
    def of(
        cls, log_keys: Tensor, values: Tensor, visible: Tensor
    ) -> "LinearAttentionState":
        """Returns the state after some keys and no other.

        Args:
            log_keys: `[..., t, features]`.
            values: `[..., t, value_dim]`.
            visible: bool `[..., t]`. What a hidden key holds has no influence
                on a single bit.
        """
        scale = key_scale(log_keys, visible)
        features = scale_keys(log_keys, scale, visible)
        return cls(
            scale,
            ops.sum(features, axis=-2),
            ops.matmul(ops.swapaxes(features, -1, -2), values),
        )

    def forget(self, keep: Tensor) -> "LinearAttentionState":
        """Returns the same, but empty where `keep [..., 1]` is false."""
        return LinearAttentionState(
            ops.where(keep, self.log_scale, EMPTY),
            ops.where(keep, self.weights, 0.0),
            ops.where(keep[..., None], self.weighted_values, 0.0),
        )

    def merge(self, other: "LinearAttentionState") -> "LinearAttentionState":
        """Returns the state after the keys of both."""
        scale = ops.maximum(self.log_scale, other.log_scale)
        mine = ops.exp(self.log_scale - scale)
        others = ops.exp(other.log_scale - scale)
        return LinearAttentionState(
            scale,
            self.weights * mine + other.weights * others,
            self.weighted_values * mine[..., None]
            + other.weighted_values * others[..., None],
        )

    def merge_chunks(self) -> "LinearAttentionState":
        """Returns the state after all keys, given that of each chunk."""
        scale = ops.max(self.log_scale, axis=0)
        factors = ops.exp(self.log_scale - scale)
        return LinearAttentionState(
            scale,
            ops.sum(self.weights * factors, axis=0),
            ops.sum(self.weighted_values * factors[..., None], axis=0),
        )

    def read(self, log_queries: Tensor) -> PartialAttention:
        """Returns what queries `[..., t, features]` gather from the state."""
        scale = ops.max(log_queries + self.log_scale[..., None, :], axis=-1)
        features = self.query_features(log_queries, scale)
        return PartialAttention(
            ops.matmul(features, self.weighted_values),
            ops.matmul(features, self.weights[..., None])[..., 0],
            scale,
        )

    def query_features(self, log_queries: Tensor, scale: Tensor) -> Tensor:
        """Returns what multiplies the sums, for rows scaled by `scale`."""
        logits = log_queries + self.log_scale[..., None, :] - scale[..., None]
        # Of rows, it changes those alone that are there to fill a chunk.
        return ops.exp(ops.minimum(logits, 0.0))


def key_scale(log_keys: Tensor, visible: Tensor) -> Tensor:
    """Returns the largest log-feature of any visible key, `[..., features]`."""
    return ops.max(ops.where(visible[..., None], log_keys, EMPTY), axis=-2)


def scale_keys(log_keys: Tensor, scale: Tensor, visible: Tensor) -> Tensor:
    """Returns `exp(log_keys - scale)`, and 0 for hidden keys.

    Not by the scale alone: where no key is visible, all are as large as the
    largest.
    """
    logits = log_keys - scale[..., None, :]
    return ops.exp(ops.where(visible[..., None], logits, EMPTY))
