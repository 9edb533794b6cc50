"""What linear attention remembers of its keys and values."""

from typing import NamedTuple

from keras import ops

from keras_moe.ops.linear_attention._partial_attention import EMPTY
from keras_moe.ops.linear_attention._partial_attention import PartialAttention
from keras_moe.types import Tensor


class LinearAttentionState(NamedTuple):
    """Sums over keys, feature by feature; no larger after a million keys.

    Attributes:
        log_scale: `[..., features]`, the largest log-feature of any key.
        sums: `[..., features, value_dim + 1]`, the sum over keys of values
            times `exp(log-feature - log_scale)`. The last entry is that of the
            weights: at least 1, or 0 before the first key.
    """

    log_scale: Tensor
    sums: Tensor

    @classmethod
    def empty(
        cls, leading_shape: tuple, num_features: int, value_dim: int
    ) -> "LinearAttentionState":
        """Returns the state before the first key."""
        scale = ops.zeros((*leading_shape, num_features), dtype="float32")
        sums = ops.zeros((*leading_shape, num_features, value_dim + 1))
        return cls(scale + EMPTY, ops.cast(sums, "float32"))

    @classmethod
    def of(
        cls, log_keys: Tensor, values: Tensor, visible: Tensor | None
    ) -> "LinearAttentionState":
        """Returns the state after some keys and no other.

        Args:
            log_keys: `[..., t, features]`.
            values: `[..., t, value_dim + 1]`.
            visible: bool `[..., t]`, or `None`. What a hidden key holds has no
                influence on a single bit.
        """
        scale = key_scale(log_keys, visible)
        features = scale_keys(log_keys, scale, visible)
        return cls(scale, ops.matmul(ops.swapaxes(features, -1, -2), values))

    def forget(self, keep: Tensor | None) -> "LinearAttentionState":
        """Returns the same, but empty where `keep [..., 1]` is false."""
        if keep is None:
            return self
        return LinearAttentionState(
            ops.where(keep, self.log_scale, EMPTY),
            ops.where(keep[..., None], self.sums, 0.0),
        )

    def merge(self, other: "LinearAttentionState") -> "LinearAttentionState":
        """Returns the state after the keys of both."""
        scale = ops.maximum(self.log_scale, other.log_scale)
        mine = ops.exp(self.log_scale - scale)[..., None]
        others = ops.exp(other.log_scale - scale)[..., None]
        return LinearAttentionState(
            scale, self.sums * mine + other.sums * others
        )

    def merge_chunks(self) -> "LinearAttentionState":
        """Returns the state after all keys, given that of each chunk."""
        scale = ops.max(self.log_scale, axis=0)
        factors = ops.exp(self.log_scale - scale)[..., None]
        return LinearAttentionState(scale, ops.sum(self.sums * factors, axis=0))

    def read(self, log_queries: Tensor) -> PartialAttention:
        """Returns what queries `[..., t, features]` gather from the state."""
        logits = log_queries + self.log_scale[..., None, :]
        scale = ops.max(logits, axis=-1)
        features = ops.exp(logits - scale[..., None])
        return PartialAttention(ops.matmul(features, self.sums), scale)

    def read_gradient(
        self, log_queries: Tensor, log_scale: Tensor, d_sums: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the gradients of log-queries and of the state's sums.

        Scales are constants: they cancel in the quotient.

        Args:
            log_queries: what was read with.
            log_scale: of the rows, `[..., t]`, at least that of `read`.
            d_sums: upstream, `[..., t, value_dim + 1]`.
        """
        logits = log_queries + self.log_scale[..., None, :]
        features = ops.exp(logits - log_scale[..., None])
        d_features = ops.matmul(d_sums, ops.swapaxes(self.sums, -1, -2))
        return (
            d_features * features,
            ops.matmul(ops.swapaxes(features, -1, -2), d_sums),
        )


def key_scale(log_keys: Tensor, visible: Tensor | None) -> Tensor:
    """Returns the largest log-feature of any visible key, `[..., features]`."""
    if visible is not None:
        log_keys = ops.where(visible[..., None], log_keys, EMPTY)
    return ops.max(log_keys, axis=-2)


def scale_keys(
    log_keys: Tensor, scale: Tensor, visible: Tensor | None
) -> Tensor:
    """Returns `exp(log_keys - scale)`, and 0 for hidden keys.

    Not by the scale alone: where no key is visible, all are as large as the
    largest.
    """
    logits = log_keys - scale[..., None, :]
    if visible is not None:
        logits = ops.where(visible[..., None], logits, EMPTY)
    return ops.exp(logits)


def keys_gradient(
    features: Tensor, values: Tensor, d_sums: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of log-keys and values, through a state's sums.

    Args:
        features: scaled features of keys, `[..., t, features]`.
        values: `[..., t, value_dim + 1]`.
        d_sums: upstream, `[..., features, value_dim + 1]`.
    """
    d_features = ops.matmul(values, ops.swapaxes(d_sums, -1, -2))
    return d_features * features, ops.matmul(features, d_sums)
