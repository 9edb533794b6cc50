"""Decoding over a model's step function, one token after the other."""

import abc
from typing import Any

from keras import ops

from keras_moe.generation._choose_cache import choose_cache
from keras_moe.generation.contracts._decodable import Decodable
from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.types import Tensor


class TokenByToken(abc.ABC):
    """A strategy that chooses one token after the other.

    `keras_moe.generation.Greedy` and `keras_moe.generation.Sampling` are such;
    a subclass says in `choose` how else to choose. Only these strategies go
    with a `keras_moe.generation.EarlyExitPolicy`. Must be hashable, as all
    strategies.

    Example:

    >>> class LeastProbable(keras_moe.generation.TokenByToken):
    ...     def choose(self, logits, position):
    ...         log_p = tf.nn.log_softmax(logits)
    ...         possible = tf.where(log_p < -1e8, np.inf, log_p)
    ...         ids = tf.argmin(possible, axis=1, output_type=tf.int32)
    ...         return ids, tf.reduce_min(possible, axis=1)
    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> model.generate([[5, 6]], 4, strategy=LeastProbable())["token_ids"].shape
    TensorShape([1, 4])
    """

    @abc.abstractmethod
    def choose(self, logits: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a token for each row, and its log probability.

        Args:
            logits: float32 `(batch, vocabulary)`; forbidden tokens hold -1e9.
            position: int32 scalar, from 0.

        Returns:
            Ids, int32 `(batch,)`, and their log probabilities, float32
            `(batch,)`.
        """

    def decode(
        self,
        model: Decodable,
        memory: Any,
        memory_mask: Tensor,
        max_length: int,
        static_shapes: bool = False,
    ) -> dict[str, Tensor]:
        """Emits a token at each step until all rows have ended.

        Args:
            model: the model.
            memory: what `model.encode` returned.
            memory_mask: its mask, bool `(batch, memory_length)`.
            max_length: greatest number of tokens to emit.
            static_shapes: whether shapes must not grow; where XLA compiles
                this, they do not in any case.

        Returns:
            `token_ids`, int32 `(batch, max_length)`; `log_probability`,
            float32 `(batch,)`; and `token_log_probability`, float32 `(batch,
            max_length)`, 0 for padding.
        """
        config = model.config
        slot = ops.expand_dims(ops.arange(max_length, dtype="int32"), 0)
        # A row without a single source token has ended before the first step:
        # its answer is empty.
        ended = ~ops.any(memory_mask, axis=1)
        # Shaped after the input, so that the batch stays dynamic.
        row = ops.zeros_like(ended, dtype="int32")
        emitted = ops.zeros_like(row[:, None] + slot) + config.pad_id

        def unfinished(position, token, ended, emitted, scores, state):
            return (position < max_length) & ~ops.all(ended)

        def advance(position, token, ended, emitted, scores, state):
            logits, state = model.step(token, position, state)
            logits = forbid_padding(logits, config)
            token, log_p = self.choose(logits, position)
            token = ops.where(ended, config.pad_id, token)
            log_p = ops.where(ended, 0.0, log_p)
            here = slot == position
            emitted = ops.where(here, token[:, None], emitted)
            scores = ops.where(here, log_p[:, None], scores)
            ended = ended | (token == config.end_id)
            return position + 1, token, ended, emitted, scores, state

        cache = choose_cache(static_shapes)
        results = ops.while_loop(
            unfinished,
            advance,
            (
                ops.zeros((), dtype="int32"),
                row + config.start_id,
                ended,
                emitted,
                ops.zeros_like(emitted, dtype="float32"),
                model.start_from(memory, memory_mask, max_length, cache),
            ),
        )
        return {
            "token_ids": results[3],
            "log_probability": ops.sum(results[4], axis=1),
            "token_log_probability": results[4],
        }


def forbid_padding(logits: Tensor, config: SequenceConfig) -> Tensor:
    """Returns logits without padding, which marks what comes after the end."""
    pad = ops.arange(logits.shape[-1]) == config.pad_id
    return ops.where(pad, -1e9, logits)
