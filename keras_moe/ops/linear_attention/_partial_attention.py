"""Attention to some of a row's keys, which merges with that to others."""

from typing import NamedTuple

from keras import ops

from keras_moe.types import Tensor

# Stands for the logarithm of 0. Finite: the difference of two infinities is
# NaN.
EMPTY = -1e30


class PartialAttention(NamedTuple):
    """Weighted sums of values, not yet divided by that of the weights.

    True sums are `sums * exp(log_scale)`. The last entry is the sum of the
    weights: at least 1 in a row that saw a key.

    Attributes:
        sums: `[..., t, value_dim + 1]`.
        log_scale: `[..., t]`.
    """

    sums: Tensor
    log_scale: Tensor

    def merge(self, other: "PartialAttention") -> "PartialAttention":
        """Returns what rows have gathered from the keys of both."""
        scale = ops.maximum(self.log_scale, other.log_scale)
        # Scales cancel in the quotient of the sums: they carry no gradient.
        mine, others = (
            ops.stop_gradient(ops.exp(each.log_scale - scale))[..., None]
            for each in (self, other)
        )
        return PartialAttention(self.sums * mine + other.sums * others, scale)

    def hide(self, seen: Tensor | None) -> "PartialAttention":
        """Returns the same with nothing where `seen [..., t]` is false."""
        if seen is None:
            return self
        return PartialAttention(
            ops.where(seen[..., None], self.sums, 0.0),
            ops.where(seen, self.log_scale, EMPTY),
        )

    def mean(self) -> Tensor:
        """Returns `[..., t, value_dim]`; zeros for rows that saw no key."""
        total = self.sums[..., -1:]
        saw = _saw(total)
        divisor = ops.where(saw, total, 1.0)
        # `where` also keeps gradients out of rows that saw no key.
        return ops.where(saw, self.sums[..., :-1] / divisor, 0.0)


def mean_gradient(mean: Tensor, total: Tensor, upstream: Tensor) -> Tensor:
    """Returns the gradient of `sums`, given that of `mean`.

    Args:
        mean: what `PartialAttention.mean` returned.
        total: the last entry of the sums, `[..., t, 1]`.
        upstream: gradient of the mean.
    """
    saw = _saw(total)
    d_values = ops.where(saw, upstream / ops.where(saw, total, 1.0), 0.0)
    d_total = -ops.sum(d_values * mean, axis=-1, keepdims=True)
    return ops.concatenate([d_values, d_total], axis=-1)


def _saw(total: Tensor) -> Tensor:
    """Whether a row saw a key; true for what is not a number: it must show."""
    return ops.logical_not(total <= 0.0)


def with_ones(values: Tensor) -> Tensor:
    """Returns values with a one as their last entry."""
    ones = ops.ones_like(values[..., :1])
    return ops.concatenate([values, ones], axis=-1)
