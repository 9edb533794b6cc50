"""How a model is decoded."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import compile_decoder
from keras_moe.generation._decode import Strategy
from keras_moe.generation._decode import check_combination
from keras_moe.layers import KeyValueCache
from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.models.switch_transformer._decoder import Decoder
from keras_moe.models.switch_transformer._decoder import DecoderState
from keras_moe.models.switch_transformer._head_kernel import head_kernel
from keras_moe.types import Tensor

# Compiled programs that a model keeps: each holds its graph.
_PROGRAMS = 32


class Decoding:
    """What `SwitchTransformer` offers to decoding loops, and `generate`."""

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
        """Returns what the decoder takes of target ids `(batch, length)`."""
        return self.target_embedding(token_ids)

    def head_kernel(self, size: int) -> Tensor:
        """Returns `(model_dim, size)`, what makes the first ids' logits."""
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

    def start(
        self, token_ids: Tensor, max_length: int, cache: Any = KeyValueCache
    ) -> DecoderState:
        """Encodes the source and allots caches for `max_length` steps.

        Args:
            token_ids: int `(batch, source_length)`, padded.
            max_length: greatest number of steps.
            cache: how attention that keeps all positions keeps them.
        """
        memory, mask = self.encode(token_ids, training=False)
        return self.decoder.initial_state(memory, mask, max_length, cache)

    def step(
        self, token_ids: Tensor, position: Tensor, state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """Computes the logits that follow one more token.

        Args:
            token_ids: int `(batch,)`, the token at `position`.
            position: int32 scalar, from 0.
            state: what `start` or the step before returned.

        Returns:
            float32 logits `(batch, vocabulary)` and the next state.
        """
        embedded = self.embed(ops.expand_dims(token_ids, 1))
        hidden, state = self.decoder.step(embedded, position, state)
        return self.logits(hidden)[:, 0], state

    def generate(
        self,
        token_ids: Tensor,
        max_length: int = 64,
        early_exit: EarlyExitPolicy | None = None,
        strategy: Strategy | None = None,
        jit_compile: bool = False,
    ) -> dict[str, Tensor]:
        """Decodes.

        Args:
            token_ids: int `(batch, source_length)`, padded.
            max_length: greatest number of tokens to emit.
            early_exit: when a token may leave the decoder early; `None` for
                never. Policies that differ in their threshold share a
                compiled program.
            strategy: `keras_moe.generation.Greedy()`, the default,
                `Sampling(...)`, `BeamSearch(...)` or `SelfSpeculative(...)`.
            jit_compile: whether to compile with XLA.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded; `log_probability`, float32 `(batch,)`, the sum over the
            emitted tokens. With `early_exit` also `exit_layer`, int32 `(batch,
            max_length)`, and `confidence`, float32 of that shape.

        Raises:
            ValueError: if `max_length` is below 1, `token_ids` not of rank 2,
                or the strategy cannot exit early.
        """
        if max_length < 1:
            raise ValueError(
                "`max_length` must be at least 1. Received: "
                f"max_length={max_length}."
            )
        token_ids = ops.convert_to_tensor(token_ids, dtype="int32")
        if len(token_ids.shape) != 2:
            raise ValueError(
                "`token_ids` must have the shape (batch, source_length). "
                f"Received: token_ids.shape={tuple(token_ids.shape)}."
            )
        check_combination(strategy, early_exit)
        # Quantising and LoRA put other variables in their places: a program
        # compiled before would go on with the old ones.
        weights = tuple(id(variable) for variable in self.variables)
        if early_exit is None:
            decode = self._decoder_for(
                weights, max_length, strategy, None, jit_compile
            )
            return decode(token_ids)
        threshold = ops.full(
            (ops.shape(token_ids)[0],), early_exit.threshold, dtype="float32"
        )
        any_threshold = dataclasses.replace(early_exit, threshold=1.0)
        decode = self._decoder_for(
            weights, max_length, strategy, any_threshold, jit_compile
        )
        return decode(token_ids, threshold)

    @functools.cached_property
    def _decoder_for(self) -> Callable[..., Callable]:
        @functools.lru_cache(maxsize=_PROGRAMS)
        def compiled(weights: tuple, *options: Any) -> Callable:
            del weights  # what else the program depends on
            return compile_decoder(self, *options)

        # Not a dictionary: that would be tracked, and no export could hold it.
        return compiled
