"""The methods that decoding loops call, and `generate`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any
from typing import Literal

import keras
from keras import ops

from keras_moe.backend import accelerator
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import ExitingDecodable
from keras_moe.generation import ExitingGenerative
from keras_moe.generation import Strategy
from keras_moe.generation import compile_decoder
from keras_moe.generation._answers import read_max_length
from keras_moe.generation._answers import warn_of_nan
from keras_moe.generation._decode import check_decoding
from keras_moe.generation._decode import check_dense
from keras_moe.generation._decode import check_token_ids
from keras_moe.generation._padded_ids import padded_ids
from keras_moe.layers import AttentionCache
from keras_moe.layers import KeyValueCache
from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.models.switch_transformer._decoder import Decoder
from keras_moe.models.switch_transformer._decoder import DecoderState
from keras_moe.models.switch_transformer._head_kernel import head_kernel
from keras_moe.ops._token_ids import read_ids
from keras_moe.types import Tensor

# Greatest number of compiled programs that a model keeps; each holds its graph.
_PROGRAMS = 32


class Decoding:
    """What makes `SwitchTransformer` a `keras_moe.generation.Decodable`.

    The methods are those of `keras_moe.generation.ExitingDecodable`, of
    `keras_moe.generation.ExitClassifying` where the config has a classifier,
    and `generate`. `encode` and `logits` are the model's.
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
        return self.decoder.init_state(memory, memory_mask, max_length, cache)

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
        return self.logits(hidden)[:, 0], state

    def generate(
        self,
        token_ids: Tensor,
        max_length: int = 64,
        early_exit: EarlyExitPolicy | None = None,
        strategy: Strategy | None = None,
        jit_compile: bool | Literal["auto"] = "auto",
    ) -> dict[str, Tensor]:
        """Decodes sources, with a program that is compiled once and kept.

        Args:
            token_ids: int `(batch, source_length)`, padded.
            max_length: greatest number of tokens to emit.
            early_exit: when a token may leave the decoder early; `None` for
                never. Policies that differ in their threshold share a
                compiled program.
            strategy: `keras_moe.generation.Greedy()`, the default,
                `Sampling(...)`, `BeamSearch(...)`, `SelfSpeculative(...)`, or
                another `keras_moe.generation.Strategy`.
            jit_compile: whether to compile with XLA, which takes seconds for
                each shape: `token_ids` are padded to a power of two of rows and
                positions, at least 8, so that there are few. `"auto"` compiles
                where there is an accelerator.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded; `log_probability`, float32 `(batch,)`, the sum over the
            emitted tokens. With `early_exit` also `exit_layer`, int32 `(batch,
            max_length)`, and `confidence`, float32 of that shape.

        Raises:
            ValueError: if `max_length` is not positive, `token_ids` not of
                rank 2 or outside the vocabulary, the strategy cannot exit
                early or is not hashable, or `jit_compile` unknown.
        """
        max_length = read_max_length(max_length)
        check_decoding(self, max_length, strategy, early_exit)
        check_dense(token_ids)
        token_ids = ops.convert_to_tensor(token_ids)
        check_token_ids(token_ids)
        # The compiled program could not raise, and a cast would cut fractions
        # off and wrap large numbers.
        read_ids(token_ids, self.config.vocabulary_size, name="token_ids")
        token_ids = ops.cast(token_ids, "int32")
        _check_hashable(strategy)
        jit_compile = _use_xla(jit_compile)
        shape: tuple[int | None, int | None] = (None, None)
        rows = ops.shape(token_ids)[0]
        if jit_compile:
            token_ids = padded_ids(
                token_ids, self.config.pad_id, self._ignores_padding
            )
            shape = tuple(token_ids.shape)
        inputs, policy = [token_ids], None
        if early_exit is not None:
            policy = dataclasses.replace(early_exit, threshold=1.0)
            inputs.append(
                ops.full(
                    ops.shape(token_ids)[:1],
                    early_exit.threshold,
                    dtype="float32",
                )
            )
        # Quantising and LoRA put other variables in their places: a program
        # compiled before would go on with the old ones.
        weights = tuple(id(variable) for variable in self.variables)
        decode = self._decoder_for(
            weights, max_length, strategy, policy, jit_compile, shape
        )
        answer = decode(*inputs)
        if not jit_compile:
            return answer
        return {name: value[:rows] for name, value in answer.items()}

    @property
    def _ignores_padding(self) -> bool:
        """Whether an answer does not depend on how far its source is padded.

        The capacity of experts that choose counts padding.
        """
        config = self.config
        return not config.num_experts or config.encoder_router != (
            "expert_choice"
        )

    @functools.cached_property
    def _decoder_for(self) -> Callable[..., Callable]:
        @functools.lru_cache(maxsize=_PROGRAMS)
        def compiled(weights: tuple, *options: Any) -> Callable:
            del weights  # part of the key: a program holds its variables
            program = compile_decoder(self, *options)
            return lambda *inputs: warn_of_nan(program(*inputs))

        # A dictionary would be tracked by Keras, and exports of the model would
        # fail on it.
        return compiled


def _use_xla(jit_compile: bool | str) -> bool:
    if jit_compile not in (True, False, "auto"):
        raise ValueError(
            "`jit_compile` must be True, False or 'auto'. Received: "
            f"jit_compile={jit_compile!r}."
        )
    if keras.backend.backend() != "tensorflow":
        return False
    if jit_compile == "auto":
        return accelerator() != "CPU"
    return bool(jit_compile)


def _check_hashable(strategy: Strategy | None) -> None:
    try:
        hash(strategy)
    except TypeError as error:
        raise ValueError(
            "`strategy` must be hashable, since a compiled program is kept for "
            "each: a frozen dataclass is. Received: "
            f"strategy={strategy!r}."
        ) from error


if TYPE_CHECKING:
    # Type checkers refuse these lines when a signature leaves its contract.
    # A class that inherits from Keras's untyped classes, as the model does,
    # would pass for anything: this base is checked instead.
    _DECODABLE: type[ExitingDecodable] = Decoding
    _GENERATIVE: type[ExitingGenerative] = Decoding
