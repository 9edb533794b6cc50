"""Greedy decoding."""

import dataclasses

from keras import ops

from keras_moe.generation._most_probable import most_probable
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
        return most_probable(ops.cast(logits, "float32"))
