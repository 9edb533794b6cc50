"""Tokens that are not finite, or whose scores rank no experts."""

import numpy as np
from keras import ops

from keras_moe.types import Tensor


def split_rows(
    logits: Tensor, padding_mask: Tensor | None, num_score_axes: int = 1
) -> tuple[Tensor, Tensor]:
    """Tells tokens that can be routed from padding, and from broken ones.

    A token with a NaN has NaN for logits, and a sort that meets NaN returns
    any order: it would spoil the routing of its whole group. Broken tokens
    are left out as padding is, and marked, so that they come out as NaN.

    Args:
        logits: float32 `[g, s, e]`, or `[g, s, e, c]`. Minus infinity forbids
            an expert, but not all of them.
        padding_mask: bool `[g, s]` or `None`.
        num_score_axes: 1, or 2 for logits of slots.

    Returns:
        Bool `[g, s, 1]` (or `[g, s, 1, 1]`), true for tokens that are routed,
        and of that shape, true for broken ones. Padding is neither.
    """
    axes = tuple(range(-num_score_axes, 0))
    # Comparisons with NaN are false.
    ranked = ops.logical_and(
        ops.all(logits < np.inf, axis=axes, keepdims=True),
        ops.any(logits > -np.inf, axis=axes, keepdims=True),
    )
    return _split(ranked, padding_mask)


def split_tokens(
    tokens: Tensor, padding_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Does for tokens `[g, s, d]` what `split_rows` does for scores.

    For scores that hide what is not finite (those of a table of ids), and for
    kernels, whose gradient would be NaN if such a token were multiplied by it.
    """
    finite = ops.all(ops.isfinite(tokens), axis=-1, keepdims=True)
    return _split(finite, padding_mask)


def _split(sound: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    broken = ops.logical_not(sound)
    if padding_mask is None:
        return sound, broken
    real = ops.cast(padding_mask, "bool")
    for _ in range(len(sound.shape) - len(real.shape)):
        real = ops.expand_dims(real, -1)
    return ops.logical_and(real, sound), ops.logical_and(real, broken)


def mark_broken(probabilities: Tensor, broken: Tensor) -> Tensor:
    """Returns the probabilities `[g, s, e]`, NaN for broken tokens."""
    return ops.where(broken, np.nan, probabilities)


def broken_rows(probabilities: Tensor) -> Tensor:
    """Returns bool `[g, s, 1]`: the tokens that `mark_broken` marked."""
    return ops.isnan(probabilities[..., :1])


def with_sentinel_rows(x: Tensor, nan: bool = False) -> Tensor:
    """Appends to `[..., n, d]` what an index past the last row reads.

    Args:
        x: rows to gather.
        nan: whether a row of NaN follows that of zeros, for broken tokens:
            they sit in no slot, and zeros would hide that a router is NaN.
    """
    before = ((0, 0),) * (len(x.shape) - 2)
    if not nan:
        return ops.pad(x, (*before, (0, 1), (0, 0)))
    zeros = ops.pad(x[..., :0, :], (*before, (0, 1), (0, 0)))
    return ops.concatenate([x, zeros, zeros + np.nan], axis=-2)
