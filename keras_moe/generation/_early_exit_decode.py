"""Decoding that leaves layers out, for TensorFlow's graphs."""

from typing import Any

import tensorflow as tf

from keras_moe.backend import shapes_must_be_static
from keras_moe.generation._choose_cache import choose_cache
from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation._exit_confidence import ExitConfidence
from keras_moe.generation._exiting_step import ExitingStep
from keras_moe.generation._token_by_token import TokenByToken
from keras_moe.generation._token_by_token import forbid_padding
from keras_moe.generation.contracts._layerwise_decodable import ExitingDecodable
from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.types import Tensor


def early_exit_decode(
    model: ExitingDecodable,
    memory: Any,
    memory_mask: Tensor,
    max_length: int,
    policy: EarlyExitPolicy,
    strategy: TokenByToken,
    threshold: Tensor | None = None,
    static_shapes: bool = False,
    confidence: ExitConfidence | None = None,
) -> dict[str, Tensor]:
    """Decodes token by token, each through as few layers as it needs.

    `keras_moe.generation.decode` calls it where it is given a policy. Call it
    directly to measure confidence in a way of your own.

    Args:
        model: the model.
        memory: what `model.encode` returned.
        memory_mask: its mask, bool `(batch, memory_length)`.
        max_length: greatest number of tokens to emit.
        policy: when a token may leave.
        strategy: how the next token is chosen.
        threshold: float32 `(batch,)`, instead of the policy's.
        static_shapes: whether shapes must not grow; where XLA compiles
            this, they do not in any case.
        confidence: measures how sure the model is; `None` for what the policy
            says.

    Returns:
        `token_ids`, int32 `(batch, max_length)`; `log_probability`, float32
        `(batch,)`; `token_log_probability`, float32 `(batch, max_length)`, 0
        for padding; `exit_layer`, int32 `(batch, max_length)`, the layers
        computed for each token, 0 for padding; and `confidence`, float32
        `(batch, max_length)`, as measured at the token's exit: for a token of
        the last layer, at the exit below it.

    Raises:
        ValueError: if the model has too few layers, too small a vocabulary or
            no such confidence.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> class HalfAsSure(keras_moe.generation.ExitConfidence):
    ...     def __call__(self, before, after):
    ...         sure, logits = super().__call__(before, after)
    ...         return 0.5 * sure, logits
    >>> policy = keras_moe.generation.EarlyExitPolicy("state", threshold=0.4)
    >>> decoded = keras_moe.generation.early_exit_decode(
    ...     model,
    ...     *model.encode(tf.constant([[5, 6, 7]])),
    ...     max_length=4,
    ...     policy=policy,
    ...     strategy=keras_moe.generation.Greedy(),
    ...     confidence=HalfAsSure(model, policy),
    ... )
    >>> decoded["exit_layer"].shape
    TensorShape([1, 4])
    """
    segments = policy.segments(len(model.decoder.blocks))
    confidence = confidence or ExitConfidence(model, policy)
    if threshold is None:
        threshold = tf.fill(tf.shape(memory_mask)[:1], policy.threshold)
    static_shapes = static_shapes or shapes_must_be_static()
    cache = choose_cache(static_shapes)
    step = ExitingStep(
        model,
        model.start_from(memory, memory_mask, max_length, cache),
        max_length,
        policy,
        segments,
        policy.propagation == "deferred" and not static_shapes,
        threshold,
        confidence,
    )
    return _decode(step, model.config, memory_mask, max_length, strategy)


def _decode(
    step: ExitingStep,
    config: SequenceConfig,
    memory_mask: Tensor,
    max_length: int,
    strategy: TokenByToken,
) -> dict[str, Tensor]:
    slot = tf.range(max_length)[None, :]
    ended = ~tf.reduce_any(memory_mask, axis=1)
    row = tf.zeros_like(ended, tf.int32)
    empty = tf.zeros_like(row[:, None] + slot)

    def unfinished(position, token, ended, *_):
        return (position < max_length) & ~tf.reduce_all(ended)

    def advance(position, token, ended, ids, depths, sure, scores, caches):
        logits, rows, caches = step(token, position, ended, caches)
        logits = forbid_padding(logits, config)
        token, log_p = strategy.choose(logits, position)
        token = tf.where(ended, config.pad_id, token)
        here = slot == position
        return (
            position + 1,
            token,
            ended | (token == config.end_id),
            tf.where(here, token[:, None], ids),
            tf.where(here, rows.exit_layer[:, None], depths),
            tf.where(here, rows.confidence[:, None], sure),
            tf.where(here, tf.where(ended, 0.0, log_p)[:, None], scores),
            caches,
        )

    results = tf.while_loop(
        unfinished,
        advance,
        (
            tf.zeros((), tf.int32),
            row + config.start_id,
            ended,
            empty + config.pad_id,
            empty,
            tf.cast(empty, tf.float32),
            tf.cast(empty, tf.float32),
            step.initial_caches(),
        ),
        parallel_iterations=1,
    )
    ids, depths, sure, scores = results[3:7]
    return {
        "token_ids": ids,
        "exit_layer": depths,
        "confidence": sure,
        "log_probability": tf.reduce_sum(scores, axis=1),
        "token_log_probability": scores,
    }
