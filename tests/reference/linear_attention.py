"""Random-feature attention pair by pair, in float64."""

import numpy as np


def log_features(x, projection, kernel="softmax", antithetic=False):
    """`[b, n, g, t, features]` for `x` `[b, n, g, t, dim]`."""
    x, projection = np.float64(x), np.float64(projection)
    p = np.einsum("bngtd,nmd->bngtm", x, projection)
    if antithetic:
        p = np.concatenate([p, -p], axis=-1)
    if kernel == "relu":
        return np.log(np.maximum(p, 0.0) + 1e-3)
    if kernel == "elu":
        return np.where(p > 0.0, np.log1p(np.maximum(p, 0.0)), p)
    return p


def log_queries(x, feature_map):
    """As `FeatureMap` defines them; the features' own weights are here."""
    x = x * np.float64(feature_map.query_scale) - feature_map.query_shift
    of_x = log_features(
        x, feature_map.projection, feature_map.kernel, feature_map.antithetic
    )
    return of_x + np.float64(feature_map.log_weights)[:, None, None, :]


def log_keys(x, feature_map):
    """As `FeatureMap` defines them."""
    x = x * np.float64(feature_map.key_scale) - feature_map.key_shift
    of_x = log_features(
        x, feature_map.projection, feature_map.kernel, feature_map.antithetic
    )
    if feature_map.kernel != "softmax":
        return of_x
    weight = (x * feature_map.taken - 0.5 * x**2).sum(-1, keepdims=True)
    return of_x + weight


def attention(log_queries, log_keys, values, seen):
    """Outputs `[b, n, g, t, value_dim]`; `seen` is `[b, t, s]`."""
    batch, heads, group, length, _ = log_queries.shape
    outputs = np.zeros((batch, heads, group, length, values.shape[-1]))
    for b in range(batch):
        for n in range(heads):
            for g in range(group):
                for t in range(length):
                    visible = np.flatnonzero(seen[b, t])
                    if not visible.size:
                        continue
                    log_pairs = (
                        log_queries[b, n, g, t] + log_keys[b, n, 0, visible]
                    )
                    log_weights = np.logaddexp.reduce(log_pairs, axis=-1)
                    weights = np.exp(log_weights - log_weights.max())
                    outputs[b, n, g, t] = (
                        weights @ values[b, n, 0, visible] / weights.sum()
                    )
    return outputs


def seen_pairs(
    visible, causal=False, strict=False, segment_ids=None, queries=None
):
    """Bool `[b, t, s]` for `visible` `[b, s]`."""
    batch, length = visible.shape
    queries = length if queries is None else queries
    seen = np.repeat(visible[:, None, :], queries, axis=1)
    row, column = np.arange(queries)[:, None], np.arange(length)[None, :]
    if causal:
        seen = seen & (row > column if strict else row >= column)
    if segment_ids is not None:
        seen = seen & (segment_ids[:, :, None] == segment_ids[:, None, :])
    return seen
