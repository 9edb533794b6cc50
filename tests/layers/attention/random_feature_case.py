"""Inputs of `RandomFeatureAttention`, and its answer pair by pair."""

import numpy as np

from keras_moe.layers import RandomFeatureAttention
from tests.reference import linear_attention as reference

DIM, HEADS, KEY_DIM = 12, 4, 6


def data(*shape, seed=0, scale=1.0):
    normal = np.random.default_rng(seed).normal(size=(*shape, DIM))
    return (scale * normal).astype("float32")


def make(num_random_features=24, **arguments):
    arguments = {"exact_below": None, "seed": 1, **arguments}
    return RandomFeatureAttention(
        HEADS, KEY_DIM, num_random_features, **arguments
    )


def rotate(heads, segment_ids=None):
    """Rotary positions on `[b, n, g, t, dim]`, as complex numbers."""
    half = heads.shape[-1] // 2
    positions = np.arange(heads.shape[3])
    if segment_ids is not None:
        first = np.argmax(
            segment_ids[:, :, None] == segment_ids[:, None, :], axis=-1
        )
        positions = (positions - first)[:, None, None]
    angles = positions[..., None] * 10000.0 ** (-np.arange(half) / half)
    turned = (heads[..., :half] + 1j * heads[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def expected(
    layer,
    query,
    value,
    key=None,
    query_mask=None,
    value_mask=None,
    causal=False,
    segment_ids=None,
):
    """What a built layer should answer, in float64."""
    key = value if key is None else key
    shared, group = (
        layer.num_key_value_heads,
        HEADS // layer.num_key_value_heads,
    )

    def heads(projection, x, count):
        kernel = np.float64(projection.kernel)
        out = np.einsum("btm,mhd->bhtd", np.float64(x), kernel)
        if projection.bias is not None:
            out = out + np.float64(projection.bias)[None, :, None]
        return out.reshape(len(x), shared, count, *out.shape[2:])

    queries = heads(layer.query, query, group)
    keys = heads(layer.key, key, 1)
    values = heads(layer.value, value, 1)
    if layer.rotary:
        queries = rotate(queries, segment_ids)
        keys = rotate(keys, segment_ids)
    visible = np.ones(value.shape[:2], bool)
    if value_mask is not None:
        visible &= value_mask
    if segment_ids is not None:
        visible &= segment_ids != 0
    seen = reference.seen_pairs(
        visible,
        causal=causal,
        segment_ids=segment_ids,
        queries=query.shape[1],
    )
    attended = reference.attention(
        *log_features(layer.features, queries, keys), values, seen
    )
    rows = np.ones(query.shape[:2], bool)
    if query_mask is not None:
        rows &= query_mask
    if segment_ids is not None:
        rows &= segment_ids != 0
    attended = np.where(rows[:, None, None, :, None], attended, 0.0)
    attended = attended.reshape(len(query), HEADS, query.shape[1], -1)
    output = layer.output_projection
    answer = np.einsum("bhtd,hdm->btm", attended, np.float64(output.kernel))
    if output.bias is not None:
        answer = answer + np.float64(output.bias)
    return answer


def log_features(features, queries, keys):
    """From the layer's weights: centre, scale, bound (arXiv:2302.00787)."""
    queries, keys = queries * KEY_DIM**-0.25, keys * KEY_DIM**-0.25
    in_pairs = features.options.antithetic
    projection = np.float64(features.fitted_projection)
    if not features.is_softmax:
        arguments = (projection, features.feature_map, in_pairs)
        return (
            reference.log_features(queries, *arguments),
            reference.log_features(keys, *arguments),
        )
    a, b, scale = (
        np.float64(w)[:, None, None, :]
        for w in (features.query_center, features.key_center, features.scale)
    )
    queries, keys = (queries - a) * scale, (keys - b) / scale
    of_keys = reference.log_features(keys, projection, "softmax", in_pairs)
    of_keys += np.float64(features.log_weights)[:, None, None, :]
    length = -0.5 * (keys**2).sum(-1) + (keys * a * scale).sum(-1)
    return (
        reference.log_features(queries, projection, "softmax", in_pairs),
        of_keys + length[..., None],
    )
