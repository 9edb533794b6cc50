"""Greedy decoding."""

import dataclasses

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
        log_p = ops.max(ops.log_softmax(logits, axis=-1), axis=-1)
        # By the logits, as other strategies choose: rounding makes equal log
        # probabilities of logits that differ. Where one is NaN there is no
        # most probable token, whatever a comparison with NaN gives.
        ids = index_of_greatest(logits)
        return ops.where(ops.isnan(log_p), 0, ids), log_p
