"""The most probable token."""

import numpy as np
from keras import ops

from keras_moe.backend import index_of_greatest
from keras_moe.types import Tensor


def most_probable(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the most probable token, the first of equals.

    By the logits, not by log probabilities: those of logits that differ may
    round to equal ones.

    Args:
        logits: float32 `[..., vocabulary]`.

    Returns:
        Ids, int32 `[...]`, and their log probabilities, float32 `[...]`; 0 and
        NaN where a logit is not finite.
    """
    log_p = ops.log_softmax(logits, axis=-1)
    # If one is NaN, all are; a maximum may pass over them, as XLA's does.
    broken = ops.isnan(log_p[..., 0])
    ids = ops.where(broken, 0, index_of_greatest(logits))
    return ids, ops.where(broken, np.nan, ops.max(log_p, axis=-1))
