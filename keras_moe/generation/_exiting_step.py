"""One step of a decoding that leaves layers out."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation._exit_confidence import ExitConfidence
from keras_moe.generation.contracts._layerwise_decodable import ExitingDecodable
from keras_moe.types import Tensor


class _Rows(NamedTuple):
    """What layers hand on of one position: a row each of the batch.

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


class ExitingStep:
    """Computes one position, and leaves out layers that no row needs.

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
    ) -> tuple[Tensor, _Rows, tuple]:
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
        rows = _Rows(
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
        self, number: int, here: "_Position", rows: _Rows, caches: tuple
    ) -> tuple[_Rows, tuple]:
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
        self, number: int, here: "_Position", rows: _Rows, caches: tuple
    ) -> tuple[_Rows, tuple]:
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
            # `slots` are the positions whose keys and values this layer lacks,
            # because their tokens left below it, and the present position.
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
