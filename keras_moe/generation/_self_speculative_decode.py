"""Self-speculative decoding, for TensorFlow's graphs."""

from typing import Any

import keras
import tensorflow as tf

from keras_moe.generation._self_speculative import SelfSpeculative
from keras_moe.generation._tensor_array_cache import TensorArrayCache
from keras_moe.generation._token_by_token import forbid_padding
from keras_moe.layers import KeyValueCache
from keras_moe.types import Tensor


def self_speculative_decode(
    model: Any,
    token_ids: Tensor,
    max_length: int,
    strategy: SelfSpeculative,
    static_shapes: bool = False,
) -> dict[str, Tensor]:
    """Decodes greedily, drafting with the lower layers.

    Args:
        model: a `keras_moe.models.SwitchTransformer`, or a model with its
            `start`, `embed`, `logits` and `decoder`.
        token_ids: int `(batch, source_length)`, padded.
        max_length: greatest number of tokens to emit.
        strategy: how far to draft.
        static_shapes: whether XLA will compile this.

    Returns:
        `token_ids`, int32 `(batch, max_length)`; `log_probability`, float32
        `(batch,)`; and `num_verifications`, int32 `(batch,)`, how often all
        layers ran, the same for all rows.

    Raises:
        ValueError: if the model has too few layers, or its attention cannot
            take a draft back.
    """
    num_layers = len(model.decoder.blocks)
    if strategy.draft_layer >= num_layers:
        raise ValueError(
            "`draft_layer` must be below the last of the decoder's layers, "
            f"{num_layers}. Received: draft_layer={strategy.draft_layer}."
        )
    with keras.StatelessScope():
        step = _DraftedStep(
            model, token_ids, max_length, strategy, static_shapes
        )
        return _decode(step, model.config, token_ids, max_length)


def _decode(
    step: "_DraftedStep", config: Any, token_ids: Tensor, max_length: int
) -> dict[str, Tensor]:
    width = step.width
    # Room for a draft that goes on after the greatest length.
    slot = tf.range(max_length + width)[None, :]
    offset = tf.range(width)[None, :]
    ended = tf.reduce_all(token_ids == config.pad_id, axis=1)
    row = tf.zeros_like(ended, tf.int32)

    def unfinished(position, token, ended, *_):
        return (position < max_length) & ~tf.reduce_all(ended)

    def advance(position, token, ended, ids, score, passes, caches):
        said, log_p, matches, caches = step(token, position, caches)
        over = tf.cast(said == config.end_id, tf.int32)
        # Which of the new tokens come after an end.
        after_end = (tf.cumsum(over, axis=1, exclusive=True) > 0) | (
            ended[:, None]
        )
        # A row that ended in what was right agrees with everything after.
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
            tuple(block.positions for block in step.start.blocks),
        ),
        parallel_iterations=1,
    )
    return {
        "token_ids": results[3][:, :max_length],
        "log_probability": results[4],
        "num_verifications": results[5],
    }


class _DraftedStep:
    """Drafts some tokens with the lower layers and asks the upper ones."""

    def __init__(
        self,
        model: Any,
        token_ids: Tensor,
        max_length: int,
        strategy: SelfSpeculative,
        static_shapes: bool,
    ):
        self.model = model
        self.draft_layer = strategy.draft_layer
        self.width = strategy.draft_length + 1
        self.start = model.start(
            token_ids,
            max_length + self.width,
            cache=KeyValueCache if static_shapes else TensorArrayCache,
        )
        if not hasattr(self.start.blocks[0].positions, "rewind"):
            raise ValueError(
                "Self-speculative decoding takes drafts back, which attention "
                "that sums up its past cannot. Received: attention="
                f"{model.config.attention!r}; it must be 'softmax'."
            )

    def __call__(
        self, token: Tensor, position: Tensor, caches: tuple
    ) -> tuple[Tensor, Tensor, Tensor, tuple]:
        """Returns what all layers say to a draft.

        Args:
            token: int32 `(batch,)`, the token at `position`.
            position: int32 scalar.
            caches: of each layer, complete up to `position`.

        Returns:
            `(batch, width)` tokens and their log-probabilities; how many
            leading ones the draft had right, int32 `(batch,)`; and the caches,
            with all positions of the draft.
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
                token = self._argmax(self._logits(state))[:, 0]
                drafted.append(token)
        state, after = self._run_layers(
            tf.concat(states, axis=1),
            position,
            after,
            range(self.draft_layer, len(after)),
        )
        logits = self._logits(state)
        said = self._argmax(logits)
        log_p = tf.reduce_max(tf.nn.log_softmax(logits), axis=-1)
        agrees = said[:, :-1] == tf.stack(drafted, axis=1)
        right = tf.math.cumprod(tf.cast(agrees, tf.int32), axis=1)
        return said, log_p, tf.reduce_sum(right, axis=1), tuple(after)

    def _run_layers(
        self, state: Tensor, position: Tensor, caches: list, layers: range
    ) -> tuple[Tensor, list]:
        after = list(caches)
        positions = position + tf.range(state.shape[1])
        bias = self.model.decoder.bias(positions, self.start.positions)
        for index in layers:
            before = self.start.blocks[index]._replace(positions=caches[index])
            state, new = self.model.decoder.blocks[index].step(
                state, before, bias, num_queries=state.shape[1]
            )
            after[index] = new.positions
        return state, after

    def _logits(self, state: Tensor) -> Tensor:
        hidden = self.model.decoder.finish(state, training=False)
        return forbid_padding(self.model.logits(hidden), self.model.config)

    @staticmethod
    def _argmax(logits: Tensor) -> Tensor:
        return tf.argmax(logits, axis=-1, output_type=tf.int32)
