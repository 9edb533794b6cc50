"""Every query sees the visible keys up to its own."""

from typing import NamedTuple

from keras import ops
from keras import tree

from keras_moe.ops.linear_attention._chunks import Chunks
from keras_moe.ops.linear_attention._feature_map import FeatureMap
from keras_moe.ops.linear_attention._partial_attention import EMPTY
from keras_moe.ops.linear_attention._partial_attention import PartialAttention
from keras_moe.ops.linear_attention._partial_attention import with_ones
from keras_moe.ops.linear_attention._state import LinearAttentionState
from keras_moe.ops.linear_attention._state import keys_gradient
from keras_moe.ops.linear_attention._state import scale_keys
from keras_moe.ops.linear_attention._within_chunk import NEAREST
from keras_moe.ops.linear_attention._within_chunk import Chunk
from keras_moe.types import Tensor

# Tokens of a chunk, a power of two. Larger chunks mean fewer steps and more
# arithmetic within each.
CHUNK_SIZE = 64
# Greatest length after padding to whole chunks, over the length before.
_MOST_PADDING = 1.25


def causal_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
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
        visible: bool `[b, 1, 1, t]`, false for hidden keys; `None` hides none.
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
    if initial_state is None:
        initial_state = LinearAttentionState.empty(
            (batch, heads, 1), feature_map.num_features, values.shape[-1]
        )
    run = _Run(
        Chunks.of_size(length, chunk_size), feature_map, strict, initial_state
    )
    masks = run.masks(visible, segment_ids, keys)

    @ops.custom_gradient
    def attend(queries, keys, values):
        inputs = (*map(run.chunks.pad, (queries, keys, values)), *masks)
        states, final = run.states(*inputs[1:])
        gathered = run.attend(inputs, states)

        def gradient(*upstream):
            # Of several outputs TensorFlow hands gradients over one by one,
            # JAX as they were returned.
            d_sums, *_ = tree.flatten(upstream)
            return run.gradient(
                inputs, states, final, gathered.log_scale, d_sums
            )

        return (*gathered, *final), gradient

    sums, log_scale, *final = attend(queries, keys, with_ones(values))
    return (
        PartialAttention(sums, ops.stop_gradient(log_scale)),
        LinearAttentionState(*map(ops.stop_gradient, final)),
    )


class _Run(NamedTuple):
    """One run through all chunks.

    Inputs of its methods are padded, `[b, n, g, t, ...]`. States are those
    before each chunk, `[chunks, b, n, 1, ...]`.
    """

    chunks: Chunks
    feature_map: FeatureMap
    strict: bool
    initial_state: LinearAttentionState

    def masks(
        self,
        visible: Tensor | None,
        segment_ids: Tensor | None,
        keys: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Returns masks of positions: what `states` and others take."""
        visible = self.chunks.pad_mask(visible, keys)
        if segment_ids is None:
            return visible, None, None
        ids: Tensor = self.chunks.pad(segment_ids)
        # `previous` is the segment of the position before; the first position
        # counts as one that goes on.
        previous = ops.concatenate([ids[..., :1], ids[..., :-1]], axis=-1)
        return visible, ids, previous

    def states(
        self,
        keys: Tensor,
        values: Tensor,
        visible: Tensor | None,
        segment_ids: Tensor | None,
        previous: Tensor | None,
    ) -> tuple[LinearAttentionState, LinearAttentionState]:
        """Returns the state before each chunk, and the one after the last."""

        def summary(keys, values, visible, segment_ids):
            log_keys = self.feature_map.log_keys(keys)
            seen = _remembered(visible, segment_ids)
            return tuple(LinearAttentionState.of(log_keys, values, seen))

        def advance(state, chunk):
            after = LinearAttentionState(*state)
            if segment_ids is not None:
                *chunk, goes_on = chunk
                after = after.forget(goes_on)
            return tuple(after.merge(LinearAttentionState(*chunk))), state

        summaries = self.chunks.map(
            summary, (keys, values, visible, segment_ids)
        )
        if segment_ids is not None:
            summaries = (*summaries, self._goes_on(segment_ids, previous))
        final, states = self.chunks.scan(
            advance, tuple(self.initial_state), summaries
        )
        return LinearAttentionState(*states), LinearAttentionState(*final)

    def _goes_on(self, segment_ids: Tensor, previous: Tensor) -> Tensor:
        """Whether the segment before each chunk goes on after it."""

        def of_chunk(segment_ids, previous):
            return segment_ids[..., -1:] == previous[..., :1]

        return self.chunks.map(of_chunk, (segment_ids, previous))

    def attend(
        self, inputs: tuple[Tensor | None, ...], states: LinearAttentionState
    ) -> PartialAttention:
        """Returns what all rows have gathered."""

        def of_chunk(*arrays):
            *of_inputs, log_scale, sums = arrays
            chunk, seen = self._chunk(*of_inputs)
            state = LinearAttentionState(log_scale, sums)
            before = state.read(chunk.log_queries).hide(seen)
            return tuple(chunk.attend(before))

        gathered = self.chunks.map(of_chunk, inputs, tuple(states))
        return PartialAttention(*map(self.chunks.join, gathered))

    def gradient(
        self,
        inputs: tuple[Tensor | None, ...],
        states: LinearAttentionState,
        final: LinearAttentionState,
        log_scale: Tensor,
        d_sums: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of queries, keys and values."""
        queries, keys, values, visible, segment_ids, previous = inputs
        rows = (self.chunks.pad(log_scale, fill=1e30), self.chunks.pad(d_sums))
        d_queries, d_keys, d_values, d_read = self.chunks.map(
            self._rows_gradient, (*inputs, *rows), tuple(states)
        )
        scales = ops.concatenate(
            [states.log_scale[1:], ops.expand_dims(final.log_scale, 0)], axis=0
        )
        kept = ops.exp(states.log_scale - scales)
        if segment_ids is not None:
            goes_on = self._goes_on(segment_ids, previous)
            kept = ops.where(goes_on, kept, 0.0)

        def go_back(d_after, chunk):
            d_read, kept = chunk
            return (d_read + kept[..., None] * d_after[0],), d_after

        nothing = (ops.zeros_like(ops.take(d_read, 0, axis=0)),)
        _, (d_after,) = self.chunks.scan(
            go_back, nothing, (d_read, kept), reverse=True
        )
        d_later_keys, d_later_values = self.chunks.map(
            self._keys_gradient,
            (keys, values, visible, segment_ids),
            (scales, d_after),
        )
        return (
            self.chunks.join(d_queries),
            self.chunks.join(d_keys + d_later_keys),
            self.chunks.join(d_values + d_later_values),
        )

    def _rows_gradient(
        self, queries, keys, *arrays: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Through what the rows of one chunk gathered.

        Returns:
            The gradients of queries, of keys and values as far as rows of the
            chunk see them, and of the sums that were read.
        """
        *others, log_scale, d_sums, state_scale, sums = arrays
        chunk, seen = self._chunk(queries, keys, *others)
        state = LinearAttentionState(state_scale, sums)
        log_queries = chunk.log_queries
        if seen is not None:
            log_queries = ops.where(seen[..., None], log_queries, EMPTY)
        d_reading, d_read = state.read_gradient(log_queries, log_scale, d_sums)
        d_log_queries, d_log_keys, d_values = chunk.gradient(log_scale, d_sums)
        return (
            self.feature_map.queries_gradient(
                queries, d_reading + d_log_queries
            ),
            self.feature_map.keys_gradient(keys, d_log_keys),
            d_values,
            # All queries of a group read one state, so its gradients add up.
            ops.sum(d_read, axis=2, keepdims=True),
        )

    def _keys_gradient(
        self, keys, values, visible, segment_ids, log_scale, d_sums
    ) -> tuple[Tensor, Tensor]:
        """Returns the gradients through what one chunk left to later ones."""
        log_keys = self.feature_map.log_keys(keys)
        seen = _remembered(visible, segment_ids)
        features = scale_keys(log_keys, log_scale, seen)
        d_log_keys, d_values = keys_gradient(features, values, d_sums)
        return self.feature_map.keys_gradient(keys, d_log_keys), d_values

    def _chunk(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        visible: Tensor | None,
        segment_ids: Tensor | None,
        previous: Tensor | None,
    ) -> tuple[Chunk, Tensor | None]:
        """Returns one chunk, and which rows see the state before it."""
        feature_map = self.feature_map
        chunk = Chunk(
            feature_map.log_queries(queries) + feature_map.feature_weights,
            feature_map.log_keys(keys),
            values,
            visible,
            segment_ids,
            self.strict,
        )
        if segment_ids is None or previous is None:
            return chunk, None
        return chunk, segment_ids == previous[..., :1]


def _remembered(
    visible: Tensor | None, segment_ids: Tensor | None
) -> Tensor | None:
    """Returns which keys later chunks may see: of the segment that goes on."""
    if segment_ids is None:
        return visible
    goes_on = segment_ids == segment_ids[..., -1:]
    return goes_on if visible is None else visible & goes_on


def _fitting_size(length: int, chunk_size: int) -> int:
    """Returns a smaller chunk for lengths that would be mostly padding."""
    # A few positions make one chunk, no larger than need be: decoding calls
    # this with a single position.
    least = min(chunk_size, 1 << max(0, length - 1).bit_length(), NEAREST)
    while chunk_size > least:
        covered = -(-length // chunk_size) * chunk_size
        if covered <= _MOST_PADDING * length:
            break
        chunk_size //= 2
    return chunk_size
