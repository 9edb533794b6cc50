"""Errors of the arithmetic: against float64, and of steps against the whole."""

import statistics
import time

import numpy as np
import tensorflow as tf

from benchmarks.shared.report import Report
from keras_moe.layers import RandomFeatureAttention

_SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
_DIM, _FEATURES, _LENGTH = 64, 256, 512
_STREAMED = 2048
_POSITIONS = (512, 8192, 32768)


def make_layer(bound: float, draws: np.ndarray) -> RandomFeatureAttention:
    """Returns a layer of one head that projects inputs to themselves.

    Args:
        bound: of FAVOR++, for all directions; 0 for FAVOR+.
        draws: standard normal rows, `[features, dim]`.
    """
    layer = RandomFeatureAttention(
        1,
        _DIM,
        _FEATURES,
        feature_map="favor+",
        exact_below=None,
        use_bias=False,
    )
    layer.build(*3 * [(1, _LENGTH, _DIM)])
    for kernel in layer.trainable_weights:
        kernel.assign(np.eye(_DIM).reshape(kernel.shape))
    features = layer.features
    features.fitted_projection.assign(draws[None] * np.sqrt(1 - 4 * bound))
    features.log_weights.assign(2 * bound * (draws[None] ** 2).sum(-1))
    return layer


def float64_attention(
    layer: RandomFeatureAttention,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    causal: bool,
) -> np.ndarray:
    """Attends pair by pair with a layer's features, in float64, one head."""
    features = layer.features.map()
    projection = np.float64(features.projection[0])
    of_q = q * np.float64(features.query_scale[0, 0]) @ projection.T
    k = k * np.float64(features.key_scale[0, 0])
    of_k = k @ projection.T + np.float64(features.log_weights[0])
    of_k -= 0.5 * (k**2).sum(1, keepdims=True)
    outputs = np.empty_like(v)
    for row in range(len(q)):
        seen = row + 1 if causal else len(k)
        pairs = of_q[row] + of_k[:seen]
        logits = np.logaddexp.reduce(pairs, axis=1)
        weights = np.exp(logits - logits.max())
        outputs[row] = weights @ v[:seen] / weights.sum()
    return outputs


def float32_error(scale: float, bounded: bool, causal: bool) -> float:
    """Returns the relative error of float32 with the same projections."""
    rng = np.random.default_rng(0)
    q, k = scale * rng.normal(size=(2, _LENGTH, _DIM)).astype("float32")
    v = rng.normal(size=(_LENGTH, _DIM)).astype("float32")
    draws = rng.normal(size=(_FEATURES, _DIM)).astype("float32")
    bound = 0.0
    if bounded:
        # The bound of FAVOR++ with one number for all directions, computed for
        # these inputs.
        lam = ((q**2).mean() + (k**2).mean()) * _DIM**-0.5
        bound = (1 - 2 * lam - np.sqrt((2 * lam + 1) ** 2 + 8 * lam)) / 16
    layer = make_layer(np.float32(bound), draws)
    received = layer(q[None], v[None], k[None], use_causal_mask=causal)
    expected = float64_attention(
        layer, *(np.float64(x) for x in (q, k, v)), causal
    )
    difference = np.linalg.norm(received[0] - expected)
    return float(difference / np.linalg.norm(expected))


def streaming_error() -> float:
    """Returns the largest difference of steps and the whole, relatively."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, _STREAMED, 128)).astype("float32")
    layer = RandomFeatureAttention(
        4, 32, num_random_features=128, causal=True, rotary=True, seed=1
    )
    layer.adapt(x, x)
    whole = layer(x, x)
    step = tf.function(layer.step, autograph=False)
    state = layer.init_state(1)
    worst = 0.0
    for position in range(_STREAMED):
        part, state = step(x[:, position : position + 1], state)
        difference = np.abs(part[:, 0] - whole[:, position]).max()
        worst = max(worst, float(difference))
    return worst / float(np.abs(whole).max())


def step_milliseconds() -> dict[int, float]:
    """Returns the median time of a step after so many positions."""
    rng = np.random.default_rng(0)
    layer = RandomFeatureAttention(8, 64, 256, causal=True, seed=1)
    prompt = rng.normal(size=(1, max(_POSITIONS), 512)).astype("float32")
    token = tf.constant(prompt[:, :1])
    step = tf.function(layer.step, autograph=False)
    step(token, layer.init_state(1))
    times = {}
    for position in _POSITIONS:
        _, state = step(prompt[:, :position], layer.init_state(1))
        each = []
        for _ in range(200):
            start = time.perf_counter()
            _, state = step(token, state)
            each.append(time.perf_counter() - start)
        times[position] = 1000 * statistics.median(each)
    return times


def add_claims(report: Report) -> None:
    """Adds all of these."""
    for bounded, name in ((False, "favor+"), (True, "favor++")):
        for causal, kind in ((False, "bidirectional"), (True, "causal")):
            report.add_figures(
                {
                    f"float32_error_scale{scale:g}_{name}_{kind}": (
                        float32_error(scale, bounded, causal)
                    )
                    for scale in _SCALES
                }
            )
    worst = max(
        float32_error(4.0, bounded, causal)
        for bounded in (False, True)
        for causal in (False, True)
    )
    report.add_claim("float32_error_scale4", worst, 1e-5, "<")
    report.add_claim("streaming_error", streaming_error(), 1e-5, "<")
    times = step_milliseconds()
    report.add_figures(
        {f"step_ms_at_{position}": value for position, value in times.items()}
    )
