"""Decoding over a model's step function, one token after the other."""

from typing import Any
from typing import Protocol

import keras
from keras import ops

from keras_moe.layers import KeyValueCache
from keras_moe.types import Tensor


class Decodable(Protocol):
    """What a decoding loop needs of a model."""

    config: Any

    def start(
        self, token_ids: Tensor, max_length: int, cache: Any = KeyValueCache
    ) -> Any:
        """Encodes the source and returns the state before the first step."""

    def step(
        self, token_ids: Tensor, position: Tensor, state: Any
    ) -> tuple[Tensor, Any]:
        """Returns the logits after one more token, and the next state."""


def decode_token_by_token(
    model: Decodable,
    token_ids: Tensor,
    max_length: int,
    choice: Any,
    cache: Any = KeyValueCache,
) -> dict[str, Tensor]:
    """Emits a token at each step until all rows have ended.

    Leaves the model as it found it: losses and metrics that its layers would
    record go to a scope that is thrown away, so that no assignment enters an
    exported graph.

    Args:
        model: the model.
        token_ids: int `(batch, source_length)`, padded.
        max_length: greatest number of tokens to emit.
        choice: how the next token is chosen: `keras_moe.generation.Greedy`
            or `keras_moe.generation.Sampling`.
        cache: how attention keeps the positions so far.

    Returns:
        `token_ids`, int32 `(batch, max_length)`, and `log_probability`,
        float32 `(batch,)`.
    """
    with keras.StatelessScope():
        return _decode(model, token_ids, max_length, choice, cache)


def forbid_padding(logits: Tensor, config: Any) -> Tensor:
    """Returns logits without padding: it marks what comes after the end."""
    pad = ops.arange(logits.shape[-1]) == config.pad_id
    return ops.where(pad, -1e9, logits)


def _decode(
    model: Decodable,
    token_ids: Tensor,
    max_length: int,
    choice: Any,
    cache: Any,
) -> dict[str, Tensor]:
    config = model.config
    slot = ops.expand_dims(ops.arange(max_length, dtype="int32"), 0)
    # A row without a single token has nothing to say.
    ended = ops.all(token_ids == config.pad_id, axis=1)
    # Shaped after the input, so that the batch stays dynamic.
    row = ops.zeros_like(ended, dtype="int32")
    emitted = ops.zeros_like(row[:, None] + slot) + config.pad_id

    def unfinished(position, token, ended, emitted, score, state):
        return (position < max_length) & ~ops.all(ended)

    def advance(position, token, ended, emitted, score, state):
        logits, state = model.step(token, position, state)
        token, log_p = choice.choose(forbid_padding(logits, config), position)
        token = ops.where(ended, config.pad_id, token)
        score = score + ops.where(ended, 0.0, log_p)
        emitted = ops.where(slot == position, token[:, None], emitted)
        ended = ended | (token == config.end_id)
        return position + 1, token, ended, emitted, score, state

    results = ops.while_loop(
        unfinished,
        advance,
        (
            ops.zeros((), dtype="int32"),
            row + config.start_id,
            ended,
            emitted,
            ops.zeros_like(row, dtype="float32"),
            model.start(token_ids, max_length, cache=cache),
        ),
    )
    return {"token_ids": results[3], "log_probability": results[4]}
