"""Greedy decoding."""

import dataclasses

import numpy as np
from keras import ops

from keras_moe.backend import index_of_greatest
from keras_moe.generation._token_by_token import TokenByToken
from keras_moe.types import Tensor


@dataclasses.dataclass(frozen=True)
class Greedy(TokenByToken):
    """Chooses the most probable token, the first of equally probable ones.

    Example:

    >>> greedy = keras_moe.generation.Greedy()
    >>> ids, log_probability = greedy.choose(np.log([[0.25, 0.75]]), 0)
    >>> ids.numpy(), np.exp(log_probability).round(2)
    (array([1], dtype=int32), array([0.75], dtype=float32))
    """

    def choose(self, logits: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Returns each row's most probable token, and its log probability.

        Args:
            logits: float32 `(batch, vocabulary)`; forbidden tokens hold -1e9.
            position: int32 scalar, not needed.

        Returns:
            Ids, int32 `(batch,)`, and their log probabilities, float32
            `(batch,)`.
        """
        logits = ops.cast(logits, "float32")
        all_log_p = ops.log_softmax(logits, axis=-1)
        # If one is NaN, all are; a maximum may pass over them, as XLA's does.
        broken = ops.isnan(all_log_p[:, 0])
        log_p = ops.where(broken, np.nan, ops.max(all_log_p, axis=-1))
        # By the logits, as other strategies choose: rounding makes equal log
        # probabilities of logits that differ.
        ids = index_of_greatest(logits)
        return ops.where(broken, 0, ids), log_p
