"""Every query sees every visible key."""

from keras import ops

from keras_moe.ops.linear_attention.chunks import even_chunks
from keras_moe.ops.linear_attention.chunks import join
from keras_moe.ops.linear_attention.chunks import map_chunks
from keras_moe.ops.linear_attention.chunks import split
from keras_moe.ops.linear_attention.feature_map import FeatureMap
from keras_moe.ops.linear_attention.gradients import read_gradient
from keras_moe.ops.linear_attention.gradients import summary_gradient
from keras_moe.ops.linear_attention.partial_attention import PartialAttention
from keras_moe.ops.linear_attention.state import LinearAttentionState
from keras_moe.ops.linear_attention.state import scale_keys
from keras_moe.types import Tensor

# Tokens whose features exist at once; few enough for a cache.
CHUNK_SIZE = 512


def summarize(
    keys: Tensor,
    values: Tensor,
    log_weights: Tensor,
    visible: Tensor,
    feature_map: FeatureMap,
    chunk_size: int = CHUNK_SIZE,
) -> LinearAttentionState:
    """Returns what is remembered of all visible keys. No gradient is meant.

    Args:
        keys: `[b, n, 1, s, dim]`.
        values: `[b, n, 1, s, value_dim]`.
        log_weights: `[b, n, 1, s]`, a log-weight of each key.
        visible: bool `[b, 1, 1, s]`, false for hidden keys.
        feature_map: the features.
        chunk_size: greatest number of tokens that are dealt with at once.
    """
    count, size = even_chunks(ops.shape(keys)[3], chunk_size)

    def summary(keys, values, log_weights, visible):
        log_keys = feature_map.log_key_features(keys, log_weights)
        return tuple(LinearAttentionState.of(log_keys, values, visible))

    chunks = (
        split(x, count, size) for x in (keys, values, log_weights, visible)
    )
    states = LinearAttentionState(*map_chunks(summary, tuple(chunks)))
    return states.merge_chunks()


def bidirectional_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    log_weights: Tensor,
    visible: Tensor,
    feature_map: FeatureMap,
    chunk_size: int = CHUNK_SIZE,
) -> PartialAttention:
    """Attends with random features, with no mask between pairs.

    Features are never kept: the gradient computes them again, chunk by chunk,
    so that memory beyond inputs and outputs does not grow with the length.

    Args:
        queries: `[b, n, g, t, dim]`.
        keys: `[b, n, 1, s, dim]`.
        values: `[b, n, 1, s, value_dim]`.
        log_weights: `[b, n, 1, s]`, a log-weight of each key.
        visible: bool `[b, 1, 1, s]`, false for hidden keys.
        feature_map: the features.
        chunk_size: greatest number of tokens that are dealt with at once.

    Returns:
        What the queries have gathered.
    """

    @ops.custom_gradient
    def attend(queries, keys, values, log_weights):
        state = summarize(
            keys, values, log_weights, visible, feature_map, chunk_size
        )
        gathered = read_state(state, queries, feature_map, chunk_size)

        def gradient(*upstream):
            d_queries, *d_state = _queries_gradient(
                state,
                (queries, gathered.log_scale, *upstream[:2]),
                feature_map,
                chunk_size,
            )
            return d_queries, *_keys_gradient(
                state.log_scale,
                (keys, values, log_weights, visible),
                d_state,
                feature_map,
                chunk_size,
            )

        return tuple(gathered), gradient

    # The queries of a group see the same keys: one long row.
    batch, heads, group, length, dim = ops.shape(queries)
    row = ops.reshape(queries, (batch, heads, 1, group * length, dim))
    numerator, denominator, log_scale = attend(row, keys, values, log_weights)
    shape = (batch, heads, group, length)
    return PartialAttention(
        ops.reshape(numerator, (*shape, values.shape[-1])),
        ops.reshape(denominator, shape),
        ops.reshape(ops.stop_gradient(log_scale), shape),
    )


def read_state(
    state: LinearAttentionState,
    queries: Tensor,
    feature_map: FeatureMap,
    chunk_size: int = CHUNK_SIZE,
) -> PartialAttention:
    """Returns what queries `[b, n, g, t, dim]` gather from a state."""

    def read(queries):
        return tuple(state.read(feature_map.log_features(queries)))

    length = ops.shape(queries)[3]
    count, size = even_chunks(length, chunk_size)
    gathered = map_chunks(read, (split(queries, count, size),))
    return PartialAttention(*(join(each, length) for each in gathered))


def _queries_gradient(state, arrays, feature_map, size):
    """Returns the gradients of the queries and of the state's sums."""

    def of_chunk(queries, log_scale, d_numerator, d_denominator):
        features = state.query_features(
            feature_map.log_features(queries), log_scale
        )
        d_log, *d_state = read_gradient(
            state, features, d_numerator, d_denominator
        )
        return feature_map.gradient(queries, d_log), *d_state

    length = ops.shape(arrays[0])[3]
    count, size = even_chunks(length, size)
    chunks = tuple(split(x, count, size) for x in arrays)
    d_queries, *d_state = map_chunks(of_chunk, chunks)
    return join(d_queries, length), *(ops.sum(d, axis=0) for d in d_state)


def _keys_gradient(log_scale, arrays, d_state, feature_map, size):
    """Returns the gradients of keys, values and the keys' log-weights."""

    def of_chunk(keys, values, log_weights, visible):
        log_keys = feature_map.log_key_features(keys, log_weights)
        features = scale_keys(log_keys, log_scale, visible)
        d_log, d_values = summary_gradient(features, values, *d_state)
        d_keys = feature_map.gradient(keys, d_log)
        return d_keys, d_values, ops.sum(d_log, axis=-1)

    length = ops.shape(arrays[0])[3]
    count, size = even_chunks(length, size)
    chunks = tuple(split(x, count, size) for x in arrays)
    return tuple(join(d, length) for d in map_chunks(of_chunk, chunks))
