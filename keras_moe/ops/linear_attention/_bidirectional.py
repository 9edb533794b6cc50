"""Every query sees every visible key."""

from keras import ops

from keras_moe.ops.linear_attention._chunks import Chunks
from keras_moe.ops.linear_attention._feature_map import FeatureMap
from keras_moe.ops.linear_attention._partial_attention import mean_gradient
from keras_moe.ops.linear_attention._partial_attention import with_ones
from keras_moe.ops.linear_attention._state import LinearAttentionState
from keras_moe.ops.linear_attention._state import keys_gradient
from keras_moe.ops.linear_attention._state import scale_keys
from keras_moe.types import Tensor

# Tokens whose features exist at once: few enough to stay in a cache.
CHUNK_SIZE = 512


def bidirectional_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    feature_map: FeatureMap,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Attends with random features, with no mask between pairs.

    Features are never kept: the gradient computes them again, chunk by chunk,
    so that memory beyond inputs and outputs does not grow with the length.

    Args:
        queries: `[b, n, g, t, dim]`.
        keys: `[b, n, 1, s, dim]`.
        values: `[b, n, 1, s, value_dim]`.
        visible: bool `[b, 1, 1, s]`, false for hidden keys; `None` hides none.
        feature_map: the features.
        chunk_size: greatest number of tokens that are dealt with at once.

    Returns:
        `[b, n, g, t, value_dim]`; zeros where no key is visible.
    """

    @ops.custom_gradient
    def attend(queries, keys, values):
        state = summarize(keys, values, visible, feature_map, chunk_size)
        outputs, *scales = _read(state, queries, feature_map, chunk_size)

        def gradient(*upstream):
            d_queries, d_state = _queries_gradient(
                state,
                (queries, outputs, *scales, upstream[0]),
                feature_map,
                chunk_size,
            )
            d_keys, d_values = _keys_gradient(
                state.log_scale,
                (keys, values, visible),
                d_state,
                feature_map,
                chunk_size,
            )
            return d_queries, d_keys, d_values

        return outputs, gradient

    # All queries of a group see the same keys, so they make one long row.
    batch, heads, group, length, dim = ops.shape(queries)
    row = ops.reshape(queries, (batch, heads, 1, group * length, dim))
    outputs = attend(row, keys, values)
    return ops.reshape(outputs, (batch, heads, group, length, values.shape[-1]))


def summarize(
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    feature_map: FeatureMap,
    chunk_size: int = CHUNK_SIZE,
) -> LinearAttentionState:
    """Returns what is remembered of all visible keys, for `read_state`.

    Takes what `bidirectional_attention` does. No gradient is meant to flow
    through it.
    """
    chunks = Chunks.of_most(ops.shape(keys)[3], chunk_size)

    def summary(keys, values, visible):
        log_keys = feature_map.log_keys(keys)
        values = with_ones(values)
        return tuple(LinearAttentionState.of(log_keys, values, visible))

    states = chunks.map(summary, _padded(chunks, keys, values, visible))
    return LinearAttentionState(*states).merge_chunks()


def read_state(
    state: LinearAttentionState, queries: Tensor, feature_map: FeatureMap
) -> Tensor:
    """Returns what queries `[b, n, g, t, dim]` gather from a state."""
    return _read(state, queries, feature_map, CHUNK_SIZE)[0]


def _read(state, queries, feature_map, size):
    """Returns outputs, and the scale and total weight of each row."""
    chunks = Chunks.of_most(ops.shape(queries)[3], size)
    weighed = _weigh(state, feature_map)

    def read(queries):
        gathered = weighed.read(feature_map.log_queries(queries))
        return gathered.mean(), gathered.log_scale, gathered.sums[..., -1:]

    gathered = chunks.map(read, (chunks.pad(queries),))
    return tuple(map(chunks.join, gathered))


def _queries_gradient(state, arrays, feature_map, size):
    """Returns the gradients of the queries and of the state's sums."""
    queries, outputs, log_scale, total, upstream = arrays
    chunks = Chunks.of_most(ops.shape(queries)[3], size)
    weighed = _weigh(state, feature_map)

    def of_chunk(queries, outputs, log_scale, total, upstream):
        log_queries = feature_map.log_queries(queries)
        d_sums = mean_gradient(outputs, total, upstream)
        d_log, d_state = weighed.read_gradient(log_queries, log_scale, d_sums)
        return feature_map.queries_gradient(queries, d_log), d_state

    d_queries, d_state = chunks.map(
        of_chunk,
        (
            chunks.pad(queries),
            chunks.pad(outputs),
            # The huge fill makes the features of padded rows 0; with the
            # default they would be infinite.
            chunks.pad(log_scale, fill=1e30),
            chunks.pad(total),
            chunks.pad(upstream),
        ),
    )
    return chunks.join(d_queries), ops.sum(d_state, axis=0)


def _keys_gradient(log_scale, arrays, d_state, feature_map, size):
    """Returns the gradients of keys and values."""
    chunks = Chunks.of_most(ops.shape(arrays[0])[3], size)

    def of_chunk(keys, values, visible):
        log_keys = feature_map.log_keys(keys)
        features = scale_keys(log_keys, log_scale, visible)
        d_log, d_values = keys_gradient(features, with_ones(values), d_state)
        return feature_map.keys_gradient(keys, d_log), d_values[..., :-1]

    gradients = chunks.map(of_chunk, _padded(chunks, *arrays))
    return tuple(map(chunks.join, gradients))


def _padded(chunks, keys, values, visible):
    mask = chunks.pad_mask(visible, keys)
    return chunks.pad(keys), chunks.pad(values), mask


def _weigh(
    state: LinearAttentionState, feature_map: FeatureMap
) -> LinearAttentionState:
    """Adds the features' own weights: cheaper here than to each query."""
    weights = feature_map.log_weights[:, None, :]
    return state._replace(log_scale=state.log_scale + weights)
