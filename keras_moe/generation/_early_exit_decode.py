"""Decoding that leaves layers out, for TensorFlow's graphs."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from keras_moe.generation._choose_cache import choose_cache
from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation._exit_confidence import ExitConfidence
from keras_moe.generation._token_by_token import TokenByToken
from keras_moe.generation._token_by_token import forbid_padding
from keras_moe.generation.contracts._layerwise_decodable import ExitingDecodable
from keras_moe.generation.contracts._sequence_config import SequenceConfig
from keras_moe.types import Tensor


class Rows(NamedTuple):
    """A position on its way up through the layers.

    Attributes:
        state: `(batch, 1, model_dim)`; of a row that left, the state at its
            exit.
        active: bool `(batch,)`, which rows have not left yet.
        exit_layer: int32 `(batch,)`, the last layer computed for each row.
        confidence: float32 `(batch,)`, as measured last.
        logits: `(batch, vocabulary)` of each row's last exit, where the
            confidence is one of all logits; else `()`.
    """

    state: Tensor
    active: Tensor
    exit_layer: Tensor
    confidence: Tensor
    logits: Any


class _Position(NamedTuple):
    """A position, and what its layers have in common.

    Attributes:
        position: int32 scalar, from 0.
        bias: of the attention scores, if there is one.
        threshold: float32 `(batch,)`.
        history: a `tf.TensorArray` of the states at their exits, or `()`.
    """

    position: Tensor
    bias: Tensor | None
    threshold: Tensor
    history: Any


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
        static_shapes: whether XLA will compile this.
        confidence: measures how sure the model is; `None` for what the policy
            says.

    Returns:
        `token_ids`, int32 `(batch, max_length)`; `log_probability`, float32
        `(batch,)`; `exit_layer`, int32 `(batch, max_length)`, the layers
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
    cache = choose_cache(static_shapes)
    step = _ExitingStep(
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
    step: "_ExitingStep",
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

    def advance(position, token, ended, ids, depths, sure, score, caches):
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
            score + tf.where(ended, 0.0, log_p),
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
            tf.cast(row, tf.float32),
            step.initial_caches(),
        ),
        parallel_iterations=1,
    )
    names = ("token_ids", "exit_layer", "confidence", "log_probability")
    return dict(zip(names, results[3:7], strict=True))


class _ExitingStep:
    """Computes one position, and no layer that no row needs.

    Keys and values of layer i are complete for the positions before
    `caches[i].position`. At all positions from there on every row left at or
    below layer i, so that one history of exit states serves all layers.

    Args:
        model: the model.
        initial: its state before the first step.
        max_length: greatest number of tokens to emit.
        policy: when a token may leave.
        segments: the layers, counted from 0, in groups that end in an exit.
        deferred: whether keys and values that a skipped layer lacks are made
            when it is next computed; else at each token.
        threshold: `(batch,)`, before it decays.
        confidence: measures how sure the model is.
    """

    def __init__(
        self,
        model: ExitingDecodable,
        initial: Any,
        max_length: int,
        policy: EarlyExitPolicy,
        segments: tuple[tuple[int, ...], ...],
        deferred: bool,
        threshold: Tensor,
        confidence: ExitConfidence,
    ):
        self.model = model
        self.initial = initial
        self.max_length = max_length
        self.policy = policy
        self.segments = segments
        self.deferred = deferred
        self.confidence = confidence
        threshold = tf.cast(threshold, tf.float32)
        # A threshold that is NaN must let no token leave. Graph optimisation
        # turns `~(sure >= threshold)` into `sure < threshold`, which is false
        # for NaN, too, so that every token would leave.
        self.threshold = tf.where(
            tf.math.is_nan(threshold), float("inf"), threshold
        )

    def initial_caches(self) -> tuple:
        """Returns each layer's cache, and the history of exit states."""
        caches = tuple(block.positions for block in self.initial.blocks)
        if not self.deferred:
            return caches, ()
        history = tf.TensorArray(
            self.model.decoder.compute_dtype,
            self.max_length,
            clear_after_read=False,
            element_shape=(None, self.model.config.model_dim),
        )
        return caches, history

    def __call__(
        self,
        token: Tensor,
        position: Tensor,
        ended: Tensor,
        caches: tuple,
    ) -> tuple[Tensor, Rows, tuple]:
        """Returns the logits, the rows and the caches after a position."""
        layers, history = caches
        bias = self.model.decoder.bias(
            tf.reshape(position, (1,)), self.initial.positions
        )
        here = _Position(
            position,
            bias,
            self.policy.threshold_at(self.threshold, position, self.max_length),
            history,
        )
        state = self.model.embed(token[:, None])
        rows = Rows(
            state,
            ~ended,
            tf.zeros_like(token),
            tf.zeros_like(self.threshold),
            (),
        )
        after: list[Any] = []
        for number, segment in enumerate(self.segments):
            before = tuple(layers[index] for index in segment)
            if number == 0:
                rows, new = self._run(0, here, rows, before)
            else:
                rows, new = self._run_if_needed(number, here, rows, before)
            after.extend(new)
        if self.deferred:
            history = history.write(position, rows.state[:, 0])
        logits = rows.logits
        if not self.confidence.keeps_logits:
            logits = self.confidence.head(rows.state)
        return logits, rows, (tuple(after), history)

    def _run_if_needed(
        self, number: int, here: "_Position", rows: Rows, caches: tuple
    ) -> tuple[Rows, tuple]:
        def run():
            return self._run(number, here, rows, caches)

        def skip():
            if self.deferred:
                return rows, caches
            return rows, tuple(
                self._remember(index, rows.state, cache)
                for index, cache in zip(
                    self.segments[number], caches, strict=True
                )
            )

        return tf.cond(tf.reduce_any(rows.active), run, skip)

    def _run(
        self, number: int, here: "_Position", rows: Rows, caches: tuple
    ) -> tuple[Rows, tuple]:
        """Computes a segment, for the rows that have not left below it."""
        state, after = rows.state, []
        before = state
        for index, cache in zip(self.segments[number], caches, strict=True):
            before = state
            state, cache = self._run_layer(number, index, here, state, cache)
            if number > 0:
                state = tf.where(rows.active[:, None, None], state, before)
            after.append(cache)
        depth = self.segments[number][-1] + 1
        rows = rows._replace(
            state=state,
            exit_layer=tf.where(rows.active, depth, rows.exit_layer),
        )
        sure, logits = None, ()
        if number < len(self.segments) - 1:
            sure, logits = self.confidence(before, state)
        elif self.confidence.keeps_logits:
            logits = self.confidence.head(state)
        if self.confidence.keeps_logits and number > 0:
            logits = tf.where(rows.active[:, None], logits, rows.logits)
        rows = rows._replace(logits=logits)
        if sure is not None:
            rows = rows._replace(
                confidence=tf.where(rows.active, sure, rows.confidence),
                active=rows.active & ~(sure >= here.threshold),
            )
        return rows, tuple(after)

    def _run_layer(
        self, number: int, index: int, here: "_Position", state: Any, cache: Any
    ) -> tuple[Tensor, Any]:
        inputs = state
        if self.deferred and number > 0:
            # Positions whose tokens left below this layer, and this one.
            slots = tf.range(cache.position, here.position + 1)
            states = here.history.write(here.position, state[:, 0])
            inputs = tf.transpose(states.gather(slots), (1, 0, 2))
        output, after = self.model.decoder.blocks[index].step(
            inputs,
            self.initial.blocks[index]._replace(positions=cache),
            here.bias,
            num_queries=1,
        )
        return output, after.positions

    def _remember(self, index: int, state: Tensor, cache: Any) -> Any:
        """Returns a layer's cache after a position that left below it."""
        before = self.initial.blocks[index]._replace(positions=cache)
        after = self.model.decoder.blocks[index].remember(state, before)
        return after.positions
