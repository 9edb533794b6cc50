"""Self-speculative decoding, for TensorFlow's graphs."""

from typing import Any

import tensorflow as tf

from keras_moe.generation._choose_cache import choose_cache
from keras_moe.generation._most_probable import most_probable
from keras_moe.generation._token_by_token import forbid_padding
from keras_moe.generation.contracts._layerwise_decodable import (
    LayerwiseDecodable,
)
from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.layers import AttentionCache
from keras_moe.types import Tensor


def self_speculative_decode(
    model: LayerwiseDecodable,
    memory: Any,
    memory_mask: Tensor,
    max_length: int,
    draft_layer: int,
    draft_length: int,
    static_shapes: bool = False,
) -> dict[str, Tensor]:
    """Decodes greedily, drafting with the lower layers.

    Args:
        model: the model.
        memory: what `model.encode` returned.
        memory_mask: its mask, bool `(batch, memory_length)`.
        max_length: greatest number of tokens to emit.
        draft_layer: the last of the layers that draft, counted from 1.
        draft_length: tokens drafted at a time.
        static_shapes: whether shapes must not grow; where XLA compiles
            this, they do not in any case.

    Returns:
        See `keras_moe.generation.SelfSpeculative.decode`.

    Raises:
        ValueError: if the model has too few layers, or its attention cannot
            take a draft back.
    """
    num_layers = len(model.decoder.blocks)
    if draft_layer >= num_layers:
        raise ValueError(
            "`draft_layer` must be below the last of the decoder's layers, "
            f"{num_layers}. Received: draft_layer={draft_layer}."
        )
    width = draft_length + 1
    state = model.start_from(
        memory, memory_mask, max_length + width, choose_cache(static_shapes)
    )
    positions = state.blocks[0].positions
    if not isinstance(positions, AttentionCache):
        raise ValueError(
            "Self-speculative decoding takes drafts back, which attention "
            "that sums up its past cannot: `model` must have attention with a "
            "cache, such as 'softmax'. Received: attention whose state is of "
            f"type {type(positions).__name__}."
        )
    step = _DraftedStep(model, state, draft_layer, width)
    return _decode(step, model.config, memory_mask, max_length)


def _decode(
    step: "_DraftedStep",
    config: SequenceConfig,
    memory_mask: Tensor,
    max_length: int,
) -> dict[str, Tensor]:
    width = step.width
    # The buffer is longer than the greatest length by one draft, which may run
    # over it.
    slot = tf.range(max_length + width)[None, :]
    offset = tf.range(width)[None, :]
    ended = ~tf.reduce_any(memory_mask, axis=1)
    row = tf.zeros_like(ended, tf.int32)

    def unfinished(position, token, ended, *_):
        return (position < max_length) & ~tf.reduce_all(ended)

    def advance(position, token, ended, ids, score, passes, caches):
        said, log_p, matches, caches = step(token, position, caches)
        over = tf.cast(said == config.end_id, tf.int32)
        # `after_end` marks the new tokens that come after an end id.
        after_end = (tf.cumsum(over, axis=1, exclusive=True) > 0) | (
            ended[:, None]
        )
        # A row whose answer ends within the tokens that are right has nothing
        # to correct: it must not hold up the others.
        counts = tf.minimum(matches + 1, width)
        ends = tf.reduce_any(
            (said == config.end_id) & (offset < counts[:, None]), axis=1
        )
        counts = tf.where(ended | ends, width, counts)
        count = tf.reduce_min(counts)

        said = tf.where(after_end, config.pad_id, said)
        new = offset < count
        live = new & ~after_end & (position + offset < max_length)
        score += tf.reduce_sum(tf.where(live, log_p, 0.0), axis=1)
        ended |= tf.reduce_any(new & (said == config.end_id), axis=1)
        placed = tf.gather(
            said, tf.clip_by_value(slot[0] - position, 0, width - 1), axis=1
        )
        here = (slot >= position) & (slot < position + count)
        ids = tf.where(here, placed, ids)
        token = tf.gather(said, count - 1, axis=1)
        position += count
        caches = tuple(cache.rewind(position) for cache in caches)
        return position, token, ended, ids, score, passes + 1, caches

    results = tf.while_loop(
        unfinished,
        advance,
        (
            tf.zeros((), tf.int32),
            row + config.start_id,
            ended,
            tf.zeros_like(row[:, None] + slot) + config.pad_id,
            tf.cast(row, tf.float32),
            row,
            tuple(block.positions for block in step.initial.blocks),
        ),
        parallel_iterations=1,
    )
    return {
        "token_ids": results[3][:, :max_length],
        "log_probability": results[4],
        "num_verifications": results[5],
    }


class _DraftedStep:
    """Drafts some tokens with the lower layers, verifies with the upper ones.

    Args:
        model: the model.
        initial: its state before the first step.
        draft_layer: the last of the layers that draft, counted from 1.
        width: tokens verified at a time: the draft's, and the one before it.
    """

    def __init__(
        self,
        model: LayerwiseDecodable,
        initial: Any,
        draft_layer: int,
        width: int,
    ):
        self.model = model
        self.initial = initial
        self.draft_layer = draft_layer
        self.width = width

    def __call__(
        self, token: Tensor, position: Tensor, caches: tuple
    ) -> tuple[Tensor, Tensor, Tensor, tuple]:
        """Drafts tokens, and returns what all layers say in their places.

        Args:
            token: int32 `(batch,)`, the token at `position`.
            position: int32 scalar.
            caches: of each layer, complete up to `position`.

        Returns:
            `(batch, width)` tokens and their log-probabilities; how many
            leading tokens of the draft were right, int32 `(batch,)`; and the
            caches, with all positions of the draft.
        """
        after = list(caches)
        drafted, states = [], []
        for ahead in range(self.width):
            state, after = self._run_layers(
                self.model.embed(token[:, None]),
                position + ahead,
                after,
                range(self.draft_layer),
            )
            states.append(state)
            if ahead < self.width - 1:
                token = most_probable(self._logits(state))[0][:, 0]
                drafted.append(token)
        state, after = self._run_layers(
            tf.concat(states, axis=1),
            position,
            after,
            range(self.draft_layer, len(after)),
        )
        said, log_p = most_probable(self._logits(state))
        agrees = said[:, :-1] == tf.stack(drafted, axis=1)
        right = tf.math.cumprod(tf.cast(agrees, tf.int32), axis=1)
        return said, log_p, tf.reduce_sum(right, axis=1), tuple(after)

    def _run_layers(
        self, state: Tensor, position: Tensor, caches: list, layers: range
    ) -> tuple[Tensor, list]:
        after = list(caches)
        positions = position + tf.range(state.shape[1])
        bias = self.model.decoder.bias(positions, self.initial.positions)
        for index in layers:
            before = self.initial.blocks[index]._replace(
                positions=caches[index]
            )
            state, new = self.model.decoder.blocks[index].step(
                state, before, bias, num_queries=state.shape[1]
            )
            after[index] = new.positions
        return state, after

    def _logits(self, state: Tensor) -> Tensor:
        hidden = self.model.decoder.finish(state, training=False)
        return forbid_padding(self.model.logits(hidden), self.model.config)
