"""The attention of features, and those of the greatest."""

import numpy as np
from keras import ops

from keras_moe.types import Tensor


def shares(logits: Tensor, free: Tensor) -> Tensor:
    """Returns the softmax over features that are free; 0 for others.

    0 for all where there are none, without NaN in a gradient.

    Args:
        logits: float32 `[features]`.
        free: float32 `[features]`, 1 or 0.
    """
    logits = ops.where(free > 0, logits, -1e30)
    greatest = ops.stop_gradient(ops.max(logits))
    exponentials = free * ops.exp(logits - greatest)
    return exponentials / ops.maximum(ops.sum(exponentials), 1e-30)


def with_best(
    pick: Tensor,
    attention: Tensor,
    usable: Tensor,
    num_per_step: int,
    num_features: int,
) -> Tensor:
    """Returns picks, and with them the features of the greatest attention.

    Args:
        pick: int32 `[features]`, the place of each in the order of picks; -1
            for none.
        attention: float32 `[features]`.
        usable: float32 `[features]`, 0 for those that are never picked.
        num_per_step: how many are added.
        num_features: how many there are in the end.
    """
    free = (pick < 0) & (usable > 0)
    # A logit that is NaN comes last, but whatever is picked was free.
    attention = ops.where(ops.isfinite(attention), attention, -1.0)
    attention = ops.where(free, attention, -np.inf)
    _, best = ops.top_k(attention, num_per_step)
    before = ops.max(pick) + 1
    number = attention.shape[0]
    for place in range(num_per_step):
        chosen = ops.arange(number, dtype="int32") == best[place]
        order = before + place
        chosen = chosen & free & (order < num_features)
        pick = ops.where(chosen, order, pick)
    return pick
