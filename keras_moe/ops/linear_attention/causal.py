"""Every query sees the visible keys up to its own."""

from typing import NamedTuple

from keras import ops

from keras_moe.ops.linear_attention.chunks import count_chunks
from keras_moe.ops.linear_attention.chunks import join
from keras_moe.ops.linear_attention.chunks import map_chunks
from keras_moe.ops.linear_attention.chunks import scan_chunks
from keras_moe.ops.linear_attention.chunks import split
from keras_moe.ops.linear_attention.feature_map import FeatureMap
from keras_moe.ops.linear_attention.gradients import read_gradient
from keras_moe.ops.linear_attention.gradients import summary_gradient
from keras_moe.ops.linear_attention.partial_attention import EMPTY
from keras_moe.ops.linear_attention.partial_attention import PartialAttention
from keras_moe.ops.linear_attention.state import LinearAttentionState
from keras_moe.ops.linear_attention.state import scale_keys
from keras_moe.ops.linear_attention.within_chunk import NEAREST
from keras_moe.ops.linear_attention.within_chunk import Chunk
from keras_moe.types import Tensor

# A power of two. Larger chunks: fewer steps, more arithmetic within each.
CHUNK_SIZE = 64
# How much longer a sequence may become to fill its chunks.
_MOST_PADDING = 1.25


def causal_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    log_weights: Tensor,
    visible: Tensor,
    feature_map: FeatureMap,
    segment_ids: Tensor | None = None,
    initial_state: LinearAttentionState | None = None,
    strict: bool = False,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[PartialAttention, LinearAttentionState]:
    """Attends with random features to what is not later.

    Chunks are summed up, the sums are run through once, and each chunk attends
    to the sums before it and, by halving, to itself. What a row does not see
    has no influence on a single bit of it.

    Args:
        queries: `[b, n, g, t, dim]`.
        keys: `[b, n, 1, t, dim]`.
        values: `[b, n, 1, t, value_dim]`.
        log_weights: `[b, n, 1, t]`, a log-weight of each key.
        visible: bool `[b, 1, 1, t]`, false for hidden keys.
        feature_map: the features.
        segment_ids: int `[b, 1, 1, t]`; equal ones are adjacent. A row sees
            keys of its own segment.
        initial_state: what is remembered of earlier keys. It is taken as a
            constant: no gradient flows into it.
        strict: whether a row does not see its own key.
        chunk_size: a power of two.

    Returns:
        What the queries have gathered, and the state after the last key.
    """
    batch, heads, _, length, _ = ops.shape(keys)
    if isinstance(length, int):
        chunk_size = _fitting_size(length, chunk_size)
    if segment_ids is None:
        segment_ids = ops.zeros_like(visible, dtype="int32")
    if initial_state is None:
        features = feature_map.log_weights.shape[-1]
        initial_state = LinearAttentionState.empty(
            (batch, heads, 1), features, values.shape[-1]
        )
    count = count_chunks(length, chunk_size)
    segments = split(segment_ids, count, chunk_size)
    masks = (split(visible, count, chunk_size), segments, _previous(segments))

    @ops.custom_gradient
    def attend(queries, keys, values, log_weights):
        split_queries, split_keys, split_values, split_weights = (
            split(x, count, chunk_size)
            for x in (queries, keys, values, log_weights)
        )
        chunks = _Chunks(
            split_queries,
            split_keys,
            split_values,
            split_weights,
            *masks,
            feature_map,
            strict,
        )
        states, final = chunks.states(initial_state)
        gathered = chunks.attend(states)

        def gradient(*upstream):
            d_rows = (split(x, count, chunk_size) for x in upstream[:2])
            d_inputs = chunks.gradient(
                states, final, gathered.log_scale, *d_rows
            )
            return tuple(join(x, length) for x in d_inputs)

        return (*(join(x, length) for x in gathered), *final), gradient

    results = attend(queries, keys, values, log_weights)
    numerator, denominator, log_scale = results[:3]
    return (
        PartialAttention(numerator, denominator, ops.stop_gradient(log_scale)),
        LinearAttentionState(*(ops.stop_gradient(x) for x in results[3:])),
    )


class _Chunks(NamedTuple):
    """All chunks, `[chunks, b, n, g, t, ...]`, and what is done with each.

    `previous` is the segment of the position before each chunk.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    log_weights: Tensor
    visible: Tensor
    segment_ids: Tensor
    previous: Tensor
    feature_map: FeatureMap
    strict: bool

    @property
    def remembered(self) -> Tensor:
        """Keys that later chunks may see: of the segment that goes on."""
        return self.visible & (self.segment_ids == self.segment_ids[..., -1:])

    @property
    def goes_on(self) -> Tensor:
        """Whether the segment before each chunk goes on after it, `[., 1]`."""
        return self.segment_ids[..., -1:] == self.previous

    def states(
        self, initial: LinearAttentionState
    ) -> tuple[LinearAttentionState, LinearAttentionState]:
        """Returns the state before each chunk, and the one after the last."""

        def summary(keys, values, log_weights, visible):
            log_keys = self.feature_map.log_key_features(keys, log_weights)
            return tuple(LinearAttentionState.of(log_keys, values, visible))

        summaries = map_chunks(
            summary,
            (self.keys, self.values, self.log_weights, self.remembered),
        )

        def advance(state, chunk):
            summary, goes_on = chunk
            before = LinearAttentionState(*state)
            after = before.forget(goes_on).merge(LinearAttentionState(*summary))
            return tuple(after), state

        final, states = scan_chunks(
            advance, tuple(initial), (summaries, self.goes_on)
        )
        return LinearAttentionState(*states), LinearAttentionState(*final)

    def attend(self, states: LinearAttentionState) -> PartialAttention:
        """Returns what the rows of each chunk have gathered."""

        def of_chunk(*arrays):
            chunk, state, seen = self._chunk(*arrays)
            before = state.read(chunk.log_queries).hide(seen)
            return tuple(chunk.attend(before))

        return PartialAttention(*map_chunks(of_chunk, (*self[:7], *states)))

    def gradient(
        self,
        states: LinearAttentionState,
        final: LinearAttentionState,
        log_scale: Tensor,
        d_numerator: Tensor,
        d_denominator: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the gradients of queries, keys, values and log-weights."""
        rows = (log_scale, d_numerator, d_denominator)
        d_queries, d_within, d_states = map_chunks(
            self._rows_gradient, (*self[:7], *states, *rows)
        )
        scales = ops.concatenate(
            [states.log_scale[1:], final.log_scale[None]], axis=0
        )
        kept = ops.where(self.goes_on, ops.exp(states.log_scale - scales), 0.0)

        def go_back(d_after, chunk):
            d_read, kept = chunk
            d_weights, d_values = (
                d + factor * after
                for d, factor, after in zip(
                    d_read, (kept, kept[..., None]), d_after, strict=True
                )
            )
            return (d_weights, d_values), d_after

        nothing = tuple(ops.zeros_like(d[0]) for d in d_states)
        _, d_after = scan_chunks(
            go_back, nothing, (d_states, kept), reverse=True
        )
        d_later = map_chunks(
            self._keys_gradient,
            (*self[1:4], self.remembered, scales, *d_after),
        )
        d_keys = (a + b for a, b in zip(d_within, d_later, strict=True))
        return d_queries, *d_keys

    def _rows_gradient(
        self, *arrays: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Through what the rows of one chunk gathered.

        Returns:
            The gradients of queries; of keys, values and log-weights, as far
            as rows of the chunk see them; of the state that was read.
        """
        *inputs, log_scale, d_numerator, d_denominator = arrays
        queries, keys = inputs[:2]
        chunk, state, seen = self._chunk(*inputs)
        logits = ops.where(seen[..., None], chunk.log_queries, EMPTY)
        d_read, *d_state = read_gradient(
            state,
            state.query_features(logits, log_scale),
            d_numerator,
            d_denominator,
        )
        d_log_queries, d_log_keys, d_values = chunk.gradient(
            log_scale, d_numerator, d_denominator
        )
        return (
            self.feature_map.gradient(queries, d_read + d_log_queries),
            (
                self.feature_map.gradient(keys, d_log_keys),
                d_values,
                ops.sum(d_log_keys, axis=-1),
            ),
            # One state serves all queries of a group.
            tuple(ops.sum(d, axis=2, keepdims=True) for d in d_state),
        )

    def _keys_gradient(
        self, keys, values, log_weights, remembered, log_scale, *d_state
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Through what one chunk left to later chunks."""
        log_keys = self.feature_map.log_key_features(keys, log_weights)
        d_log_keys, d_values = summary_gradient(
            scale_keys(log_keys, log_scale, remembered), values, *d_state
        )
        d_keys = self.feature_map.gradient(keys, d_log_keys)
        return d_keys, d_values, ops.sum(d_log_keys, axis=-1)

    def _chunk(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        log_weights: Tensor,
        visible: Tensor,
        segment_ids: Tensor,
        previous: Tensor,
        *state: Tensor,
    ) -> tuple[Chunk, LinearAttentionState, Tensor]:
        """Returns one chunk, the state before it, and who sees that state."""
        chunk = Chunk(
            self.feature_map.log_features(queries),
            self.feature_map.log_key_features(keys, log_weights),
            values,
            visible,
            segment_ids,
            self.strict,
        )
        return chunk, LinearAttentionState(*state), segment_ids == previous


def _fitting_size(length: int, chunk_size: int) -> int:
    """Returns a smaller chunk for lengths that would be mostly padding."""
    # One chunk for a few positions: decoding goes by single ones.
    least = min(chunk_size, 1 << max(0, length - 1).bit_length(), NEAREST)
    while chunk_size > least:
        if count_chunks(length, chunk_size) * chunk_size <= (
            _MOST_PADDING * length
        ):
            break
        chunk_size //= 2
    return chunk_size


def _previous(segments: Tensor) -> Tensor:
    """Returns the segment before each chunk; the first goes on from it."""
    last = segments[..., -1:]
    return ops.concatenate([segments[:1, ..., :1], last[:-1]], axis=0)
