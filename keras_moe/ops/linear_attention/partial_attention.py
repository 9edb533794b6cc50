"""What rows have gathered from some of their keys."""

from typing import NamedTuple

from keras import ops

from keras_moe.types import Tensor

# The logarithm of nothing. Finite, so that differences stay numbers.
EMPTY = -1e30


class PartialAttention(NamedTuple):
    """A weighted mean before its division.

    The true numerator is `numerator * exp(log_scale)`, and so the denominator;
    a row that saw a key has a denominator of at least 1.

    Attributes:
        numerator: `[..., t, value_dim]`.
        denominator: `[..., t]`.
        log_scale: `[..., t]`.
    """

    numerator: Tensor
    denominator: Tensor
    log_scale: Tensor

    def merge(self, other: "PartialAttention") -> "PartialAttention":
        """Returns what rows have gathered from the keys of both."""
        scale = ops.maximum(self.log_scale, other.log_scale)
        # Scales cancel in the quotient: they carry no gradient.
        mine, others = (
            ops.stop_gradient(ops.exp(each.log_scale - scale))
            for each in (self, other)
        )
        return PartialAttention(
            self.numerator * mine[..., None]
            + other.numerator * others[..., None],
            self.denominator * mine + other.denominator * others,
            scale,
        )

    def hide(self, seen: Tensor) -> "PartialAttention":
        """Returns the same with nothing where `seen [..., t]` is false."""
        return PartialAttention(
            ops.where(seen[..., None], self.numerator, 0.0),
            ops.where(seen, self.denominator, 0.0),
            ops.where(seen, self.log_scale, EMPTY),
        )

    def mean(self) -> Tensor:
        """Returns `[..., t, value_dim]`; zeros for rows that saw no key."""
        saw = self.denominator > 0.0
        divisor = ops.where(saw, self.denominator, 1.0)[..., None]
        # So that no gradient enters such rows, either.
        return ops.where(saw[..., None], self.numerator / divisor, 0.0)
