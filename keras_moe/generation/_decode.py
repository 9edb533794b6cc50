"""One entrance to all ways of decoding."""

from collections.abc import Callable
from typing import Any

import keras

from keras_moe.generation._beam_search import BeamSearch
from keras_moe.generation._beam_search import beam_search
from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation._greedy_choice import Greedy
from keras_moe.generation._sampling import Sampling
from keras_moe.generation._self_speculative import SelfSpeculative
from keras_moe.generation._token_by_token import decode_token_by_token
from keras_moe.layers import KeyValueCache
from keras_moe.types import Tensor

Strategy = Greedy | Sampling | BeamSearch | SelfSpeculative


def check_combination(
    strategy: Strategy | None, early_exit: EarlyExitPolicy | None
) -> None:
    """Raises `ValueError` unless a strategy and a policy go together."""
    if not isinstance(strategy, Strategy | None):
        raise ValueError(
            "`strategy` must be a `keras_moe.generation.Greedy`, `Sampling`, "
            f"`BeamSearch` or `SelfSpeculative`. Received: {strategy!r}."
        )
    if not isinstance(early_exit, EarlyExitPolicy | None):
        raise ValueError(
            "`early_exit` must be a `keras_moe.generation.EarlyExitPolicy`. "
            f"Received: early_exit={early_exit!r}."
        )
    if early_exit is not None and isinstance(
        strategy, BeamSearch | SelfSpeculative
    ):
        raise ValueError(
            f"{type(strategy).__name__} runs all layers: `early_exit` must "
            f"be None. Received: early_exit={early_exit}."
        )


def decode(
    model: Any,
    token_ids: Tensor,
    max_length: int,
    strategy: Strategy | None = None,
    early_exit: EarlyExitPolicy | None = None,
    threshold: Tensor | None = None,
    static_shapes: bool = False,
) -> dict[str, Tensor]:
    """Decodes; leaves the model as it found it.

    Args:
        model: a `keras_moe.models.SwitchTransformer`, or a model with its
            `start` and `step`.
        token_ids: int `(batch, source_length)`, padded.
        max_length: greatest number of tokens to emit.
        strategy: `keras_moe.generation.Greedy` (also for `None`), `Sampling`,
            `BeamSearch` or `SelfSpeculative`.
        early_exit: when a token may leave the decoder early; for the first
            two.
        threshold: float32 `(batch,)`, instead of the policy's.
        static_shapes: whether XLA will compile this.

    Returns:
        `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and padded;
        `log_probability`, float32 `(batch,)`, the sum over the emitted tokens;
        and what else the strategy or the policy tells.

    Raises:
        ValueError: if the strategy cannot exit early.
    """
    check_combination(strategy, early_exit)
    strategy = strategy or Greedy()
    if isinstance(strategy, BeamSearch | SelfSpeculative):
        if isinstance(strategy, BeamSearch):
            return beam_search(
                model,
                token_ids,
                max_length,
                strategy.num_beams,
                strategy.length_penalty,
            )
        # Here and below: only where it is wanted, for it needs TensorFlow.
        from keras_moe.generation._self_speculative_decode import (
            self_speculative_decode,
        )

        return self_speculative_decode(
            model, token_ids, max_length, strategy, static_shapes
        )
    if early_exit is not None:
        from keras_moe.generation._early_exit import early_exit_decode

        return early_exit_decode(
            model,
            token_ids,
            max_length,
            early_exit,
            strategy,
            threshold,
            static_shapes,
        )
    cache: Any = KeyValueCache
    if keras.backend.backend() == "tensorflow" and not static_shapes:
        from keras_moe.generation._tensor_array_cache import TensorArrayCache

        cache = TensorArrayCache
    return decode_token_by_token(model, token_ids, max_length, strategy, cache)


def compile_decoder(
    model: Any,
    max_length: int,
    strategy: Strategy | None = None,
    early_exit: EarlyExitPolicy | None = None,
    jit_compile: bool = False,
) -> Callable[..., dict[str, Tensor]]:
    """Returns `decode` as a compiled function.

    Args:
        model: as for `decode`.
        max_length: as for `decode`.
        strategy: as for `decode`.
        early_exit: as for `decode`.
        jit_compile: whether to compile with XLA.

    Returns:
        A function of token ids, int32 `(batch, source_length)`, and where
        there is a policy of thresholds, float32 `(batch,)`.
    """

    def decode_ids(
        token_ids: Tensor, threshold: Tensor | None = None
    ) -> dict[str, Tensor]:
        return decode(
            model,
            token_ids,
            max_length,
            strategy,
            early_exit,
            threshold,
            static_shapes=jit_compile,
        )

    if keras.backend.backend() != "tensorflow":
        return decode_ids
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None), tf.int32)]
    if early_exit is not None:
        signature.append(tf.TensorSpec((None,), tf.float32))
    return tf.function(
        decode_ids,
        input_signature=signature,
        jit_compile=jit_compile,
        autograph=False,
    )
