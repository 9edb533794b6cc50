"""Decoding that follows several answers at a time."""

import dataclasses
import math
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_moe.generation._token_by_token import forbid_padding
from keras_moe.generation.contracts._decodable import Decodable
from keras_moe.types import Tensor
from keras_moe.validation import check_size

# `_NEVER` is the log probability of an impossible answer; those of possible
# answers are above `_POSSIBLE`.
_NEVER = -1e9
_POSSIBLE = -5e8


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """Searches for the best answer by following several at a time.

    An answer's score is its log probability divided by `((5 + length) /
    6)**length_penalty`, the end counting as a token. Each step extends the
    `num_beams` best unfinished answers (the beams) by every token; an answer
    that ends among the `num_beams` best extensions is finished, and the best
    of those that do not end are the next beams. A row is done when no beam can
    beat its best finished answer, even if all that follows were certain. Where
    no answer has finished after `max_length` tokens, the best beam is the
    answer, cut off.

    Only the best finished answer of a row is kept, since no other is returned.
    An end further down among the extensions is no answer: with one beam, it
    would be less probable than what greedy decoding says. Ties are won by what
    was found first, in order of beams and ids.

    Source: Wu et al., arXiv:1609.08144, section 7, equation 14 without the
    coverage penalty; alive and finished answers apart as in T5X,
    arXiv:2203.17189.

    Args:
        num_beams: number of unfinished answers followed at a time. One, with
            no length penalty, is greedy decoding.
        length_penalty: exponent of the length by which log probabilities are
            divided; 0 compares the log probabilities themselves, which favours
            short answers.

    Raises:
        ValueError: if `num_beams` is not a positive integer or
            `length_penalty` negative or not finite.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> beams = keras_moe.generation.BeamSearch(num_beams=3)
    >>> answer = model.generate([[5, 6, 7, 1]], max_length=6, strategy=beams)
    >>> sorted(answer)
    ['log_probability', 'score', 'token_ids']
    """

    num_beams: int = 4
    length_penalty: float = 0.6

    def __post_init__(self):
        check_size(num_beams=self.num_beams)
        if not 0.0 <= self.length_penalty < math.inf:
            raise ValueError(
                "`length_penalty` must be finite and not negative. Received: "
                f"length_penalty={self.length_penalty}."
            )

    def decode(
        self,
        model: Decodable,
        memory: Any,
        memory_mask: Tensor,
        max_length: int,
        static_shapes: bool = False,
    ) -> dict[str, Tensor]:
        """Returns the best answer found for each row.

        Args:
            model: the model; its state must be as
                `keras_moe.generation.Decodable` says.
            memory: what `model.encode` returned.
            memory_mask: its mask, bool `(batch, memory_length)`.
            max_length: greatest number of tokens to emit.
            static_shapes: not needed: shapes are static in either case.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded; `log_probability`, float32 `(batch,)`, the sum over the
            emitted tokens; `score`, float32 `(batch,)`.

        Raises:
            ValueError: if the model's state is another one.
        """
        search = _Search(model, max_length, self)
        return search.run(memory, memory_mask)


class _Beams(NamedTuple):
    """The loop's variables; flat rows are beam by beam within each row.

    Attributes:
        position: int32 scalar.
        token_ids: int32 `(batch, beams)`, the last token of each.
        log_p: float32 `(batch, beams)`, from the greatest.
        emitted: int32 `(batch * beams, max_length)`.
        best_log_p: float32 `(batch,)`, of the best finished answer.
        best_score: float32 `(batch,)`.
        best: int32 `(batch, max_length)`.
        state: the model's, of `batch * beams` rows.
    """

    position: Tensor
    token_ids: Tensor
    log_p: Tensor
    emitted: Tensor
    best_log_p: Tensor
    best_score: Tensor
    best: Tensor
    state: Any


class _Search:
    """The parts of the search's loop.

    Args:
        model: the model.
        max_length: greatest number of tokens to emit.
        settings: the settings.
    """

    def __init__(self, model: Decodable, max_length: int, settings: BeamSearch):
        self.model = model
        self.num_beams = settings.num_beams
        self.slot = ops.arange(max_length, dtype="int32")[None]
        lengths = np.arange(1, max_length + 1)
        # Penalties come from one table, so that the bound and the scores agree
        # to the last bit.
        self.penalties = ops.convert_to_tensor(
            ((5 + lengths) / 6) ** settings.length_penalty, dtype="float32"
        )
        self.max_length = max_length

    def run(self, memory: Any, memory_mask: Tensor) -> dict[str, Tensor]:
        """Runs the search; returns the dictionary of `BeamSearch.decode`."""
        beams = _Beams(
            *ops.while_loop(
                lambda *beams: self.unfinished(_Beams(*beams)),
                lambda *beams: self.advance(_Beams(*beams)),
                self.initial_beams(memory, memory_mask),
            )
        )
        finished = beams.best_score > _POSSIBLE
        # A row in which nothing is possible had no logits that are finite.
        alive = beams.log_p[:, 0]
        alive = ops.where(alive > _POSSIBLE, alive, float("nan"))
        log_p = ops.where(finished, beams.best_log_p, alive)
        cut_off = ops.take(
            beams.emitted, self.first_rows(beams.best_score), axis=0
        )
        return {
            "token_ids": ops.where(finished[:, None], beams.best, cut_off),
            "log_probability": log_p,
            "score": ops.where(
                finished, beams.best_score, log_p / self.penalties[-1]
            ),
        }

    def initial_beams(self, memory: Any, memory_mask: Tensor) -> _Beams:
        """Returns the loop's variables before the first step."""
        config = self.model.config
        empty = ~ops.any(memory_mask, axis=1)
        # Shaped after the input, so that the batch stays dynamic.
        row = ops.zeros_like(empty, dtype="int32")
        beam = ops.arange(self.num_beams, dtype="int32")
        each = row[:, None] + beam
        # All beams are equal before the first step: with more than one alive,
        # a row would follow the same answer several times.
        alive = (each == 0) & ~empty[:, None]
        # A row without a source has the empty answer, which nothing can beat.
        best = ops.where(empty, 0.0, _NEVER)
        state = self.model.start_from(memory, memory_mask, self.max_length)
        _check_state(state)
        flat = ops.arange(ops.shape(row)[0] * self.num_beams, dtype="int32")
        rows = flat // self.num_beams
        padding = ops.zeros_like(row[:, None] + self.slot) + config.pad_id
        return _Beams(
            position=ops.zeros((), dtype="int32"),
            token_ids=ops.zeros_like(each) + config.start_id,
            log_p=ops.where(alive, 0.0, _NEVER),
            emitted=ops.take(padding, rows, axis=0),
            best_log_p=best,
            best_score=best,
            best=padding,
            state=state._replace(blocks=_take_rows(state.blocks, rows)),
        )

    def unfinished(self, beams: _Beams) -> Tensor:
        """Whether any row may still find a better answer."""
        bound = beams.log_p[:, 0] / self.penalties[-1]
        return (beams.position < self.max_length) & ops.any(
            bound > beams.best_score
        )

    def advance(self, beams: _Beams) -> _Beams:
        """Returns the loop's variables one token later."""
        config = self.model.config
        logits, state = self.model.step(
            ops.reshape(beams.token_ids, (-1,)), beams.position, beams.state
        )
        log_p, parents, tokens = self.extend(beams.log_p, logits)
        ended = tokens == config.end_id
        possible = log_p > _POSSIBLE
        first = self.first_rows(beams.best_score)
        here = self.slot == beams.position

        # === Finished ===
        rank = ops.arange(2 * self.num_beams)
        ends = ended & possible & (rank < self.num_beams)
        end_log_p = ops.where(ends, log_p, _NEVER)
        place = ops.argmax(end_log_p, axis=1)[:, None]
        parent = ops.take_along_axis(parents, place, axis=1)[:, 0]
        answer = ops.take(beams.emitted, first + parent, axis=0)
        answer = ops.where(here, config.end_id, answer)
        end_log_p = ops.max(end_log_p, axis=1)
        score = end_log_p / ops.take(self.penalties, beams.position)
        better = ops.any(ends, axis=1) & (score > beams.best_score)

        # === Alive ===
        log_p = ops.where(possible & ~ended, log_p, _NEVER)
        log_p, kept = ops.top_k(log_p, self.num_beams)
        tokens = ops.take_along_axis(tokens, kept, axis=1)
        parents = ops.take_along_axis(parents, kept, axis=1)
        rows = ops.reshape(first[:, None] + parents, (-1,))
        emitted = ops.where(
            here,
            ops.reshape(tokens, (-1, 1)),
            ops.take(beams.emitted, rows, axis=0),
        )
        return _Beams(
            position=beams.position + 1,
            token_ids=tokens,
            log_p=log_p,
            emitted=emitted,
            best_log_p=ops.where(better, end_log_p, beams.best_log_p),
            best_score=ops.where(better, score, beams.best_score),
            best=ops.where(better[:, None], answer, beams.best),
            state=_follow(state, rows),
        )

    def extend(
        self, log_p: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the best extensions of all beams of each row.

        There are twice as many as beams, because up to half of them end.

        Args:
            log_p: `(batch, beams)`.
            logits: `(batch * beams, vocabulary)`.

        Returns:
            Log probabilities, from the greatest, the beams that were extended,
            and tokens, each `(batch, 2 * beams)`.
        """
        size = logits.shape[-1]
        logits = forbid_padding(logits, self.model.config)
        token_log_p = ops.log_softmax(logits, axis=-1)
        token_log_p = ops.reshape(token_log_p, (-1, self.num_beams, size))
        extended = ops.reshape(
            log_p[:, :, None] + token_log_p, (-1, self.num_beams * size)
        )
        # A sort that meets NaN returns any order.
        extended = ops.where(ops.isnan(extended), _NEVER, extended)
        best, place = ops.top_k(extended, 2 * self.num_beams)
        return best, place // size, place % size

    def first_rows(self, like: Tensor) -> Tensor:
        """Returns int32 `(batch,)`, the flat row of each row's first beam."""
        batch = ops.shape(like)[0]
        return ops.arange(batch, dtype="int32") * self.num_beams


def _check_state(state: Any) -> None:
    blocks = getattr(state, "blocks", None)
    if not (
        hasattr(state, "_replace")
        and isinstance(blocks, tuple)
        and all({"positions", "memory"} <= {*_fields(b)} for b in blocks)
    ):
        raise ValueError(
            "`model.start_from` must return a named tuple with `blocks`, a "
            "tuple of `keras_moe.layers.DecoderBlockState`s, for beams to be "
            f"followed. Received: a {type(state).__name__}."
        )


def _fields(block: Any) -> tuple[str, ...]:
    return getattr(block, "_fields", ())


def _follow(state: Any, rows: Tensor) -> Any:
    """Returns the state with the caches of the beams that went on.

    Beams of a row share its memory, which therefore stays where it is.
    """
    return state._replace(
        blocks=tuple(
            block._replace(positions=_take_rows(block.positions, rows))
            for block in state.blocks
        )
    )


def _take_rows(tree: Any, rows: Tensor) -> Any:
    return keras.tree.map_structure(
        lambda leaf: ops.take(leaf, rows, axis=0) if len(leaf.shape) else leaf,
        tree,
    )
