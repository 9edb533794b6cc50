"""The contract of a model that is decoded."""

from typing import Any
from typing import Protocol
from typing import runtime_checkable

from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.layers import AttentionCache
from keras_moe.layers import KeyValueCache
from keras_moe.types import Tensor


@runtime_checkable
class Decodable(Protocol):
    """A model that is decoded token by token, from a memory of its source.

    `encode` and `start_from` are two steps, so that one memory serves many
    decodings and many decoders. A memory is what the model makes of it: a
    tensor, or a nested structure of tensors, whose first axis is the batch.

    `keras_moe.generation.BeamSearch` also needs a state that is a named tuple
    with `blocks`, a tuple of `keras_moe.layers.DecoderBlockState`s (or of named
    tuples with those fields). In `blocks`, the first axis of every tensor is
    the batch; scalars belong to all rows. A block's `positions` go with the
    beams; its `memory` must stay the same from step to step, since it is
    repeated for each beam once, before the first. What else the state holds
    must belong to all rows.

    Example:

    >>> class Echo:
    ...     "Repeats its source."
    ...     config = keras_moe.models.SwitchTransformerConfig(10)
    ...
    ...     def encode(self, token_ids, training=None):
    ...         return token_ids, token_ids != self.config.pad_id
    ...
    ...     def start_from(self, memory, memory_mask, max_length, cache=None):
    ...         return memory
    ...
    ...     def step(self, token_ids, position, state):
    ...         return 9.0 * tf.one_hot(state[:, position], 10), state
    >>> isinstance(Echo(), keras_moe.generation.Decodable)
    True
    >>> keras_moe.generation.decode(Echo(), [[5, 6, 1]], 3)["token_ids"].numpy()
    array([[5, 6, 1]], dtype=int32)
    """

    @property
    def config(self) -> SequenceConfig:
        """The ids."""

    def encode(
        self, token_ids: Tensor, training: bool | None = None
    ) -> tuple[Any, Tensor]:
        """Encodes the source.

        Args:
            token_ids: int `(batch, source_length)`, padded.
            training: whether to train.

        Returns:
            The memory, and its mask, bool `(batch, memory_length)`, false for
            padding. A row without anything but padding has an empty answer.
        """

    def start_from(
        self,
        memory: Any,
        memory_mask: Tensor,
        max_length: int,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> Any:
        """Returns the state before the first step.

        Args:
            memory: what `encode` returned, or a part or a concatenation of it.
            memory_mask: its mask.
            max_length: greatest number of steps.
            cache: how attention that keeps all positions keeps them.
        """

    def step(
        self, token_ids: Tensor, position: Tensor, state: Any
    ) -> tuple[Tensor, Any]:
        """Computes the logits that follow one more token.

        Args:
            token_ids: int `(batch,)`, the token at `position`.
            position: int32 scalar, from 0.
            state: what `start_from` or the step before returned.

        Returns:
            float32 logits `(batch, vocabulary)` and the next state.
        """
