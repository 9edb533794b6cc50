"""The methods that decoding loops call."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

from keras import ops

from keras_moe.generation import ExitingDecodable
from keras_moe.generation import ExitingGenerative
from keras_moe.generation._generating import Generating
from keras_moe.layers import AttentionCache
from keras_moe.layers import KeyValueCache
from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.models.switch_transformer._decoder import Decoder
from keras_moe.models.switch_transformer._decoder import DecoderState
from keras_moe.models.switch_transformer._head_kernel import head_kernel
from keras_moe.models.switch_transformer._turned_table import turned_table
from keras_moe.types import Tensor


class Decoding(Generating):
    """What makes `SwitchTransformer` a `keras_moe.generation.Decodable`.

    The methods are those of `keras_moe.generation.ExitingDecodable`, of
    `keras_moe.generation.ExitClassifying` where the config has a classifier.
    `encode` and `logits` are the model's.
    """

    config: SwitchTransformerConfig
    decoder: Decoder
    variables: list
    encode: Callable
    logits: Callable
    target_embedding: Any
    head: Any
    exit_classifier: Any

    # === Parts of an exit ===

    def embed(self, token_ids: Tensor) -> Tensor:
        """Returns the decoder's inputs for target ids `(batch, length)`."""
        return self.target_embedding(token_ids)

    def head_kernel(self, size: int) -> Tensor:
        """Returns `(model_dim, size)`, the kernel of the first ids' logits."""
        if not self.config.tie_embeddings:
            return head_kernel(self.head, size)
        scale = self.config.model_dim**-0.5
        return head_kernel(self.target_embedding, size, scale)

    def exit_logits(self, hidden: Tensor) -> Tensor:
        """Returns the classifier's float32 logits, without the last axis."""
        return self.exit_classifier(hidden)[..., 0]

    def exit_confidence(self, hidden: Tensor) -> Tensor:
        """Returns the learned confidence in [0, 1] of normalised states."""
        return ops.sigmoid(self.exit_logits(hidden))

    # === Step by step ===

    def start_from(
        self,
        memory: Tensor,
        memory_mask: Tensor,
        max_length: int,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> DecoderState:
        """Returns the state before the first of `max_length` steps.

        Args:
            memory: what `encode` returned, `(batch, memory_length, model_dim)`.
            memory_mask: its mask, bool `(batch, memory_length)`.
            max_length: greatest number of steps.
            cache: how attention that keeps all positions keeps them.
        """
        state = self.decoder.init_state(memory, memory_mask, max_length, cache)
        if not self.config.tie_embeddings:
            return state
        kernels = turned_table(self.target_embedding, max_length)
        return state._replace(head_kernels=kernels)

    def step(
        self, token_ids: Tensor, position: Tensor, state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """Computes the logits that follow one more token.

        Args:
            token_ids: int `(batch,)`, the token at `position`.
            position: int32 scalar, from 0.
            state: what `start_from` or the step before returned.

        Returns:
            float32 logits `(batch, vocabulary)` and the next state.
        """
        embedded = self.embed(ops.expand_dims(token_ids, 1))
        hidden, state = self.decoder.step(embedded, position, state)
        return self.logits(hidden, state.head_kernels)[:, 0], state

    @property
    def ignores_padding(self) -> bool:
        """Whether an answer does not depend on how far its source is padded.

        The capacity of experts that choose counts padding.
        """
        config = self.config
        return not config.num_experts or config.encoder_router != (
            "expert_choice"
        )


if TYPE_CHECKING:
    # Type checkers refuse these lines when a signature leaves its contract.
    # A class that inherits from Keras's untyped classes, as the model does,
    # would pass for anything: this base is checked instead.
    _DECODABLE: type[ExitingDecodable] = Decoding
    _GENERATIVE: type[ExitingGenerative] = Decoding
