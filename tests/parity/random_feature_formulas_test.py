"""Our random-feature attention against the published formulas, in float64.

With the same projections, so that nothing is left to chance. The last tests
show that two habits of the published code are wrong, and ours are not: one
maximum for all keys with an epsilon, and a QR decomposition as it comes.
"""

import functools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from keras_moe.layers import RandomFeatureAttention
from keras_moe.ops import random_projection
from keras_moe.ops.linear_attention._fit_features import optimal_bound
from tests.reference import random_features as reference

BATCH, LENGTH, HEADS, DIM, FEATURES = 2, 20, 2, 8, 24
PUBLISHED = {
    "covariance": "isotropic",
    "centering": False,
    "rescaling": False,
    "antithetic": False,
    "projection": "orthogonal",
}
# float32 against float64: log-features of up to 100, with 6e-8 of each.
TOLERANCE = 1e-5


def normal(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def relative_error(actual, expected):
    actual = np.asarray(actual, "float64")
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def make_layer(feature_map, heads=HEADS, dim=DIM, features=FEATURES, **options):
    """A layer whose inputs are the heads, side by side, and so its outputs."""
    layer = RandomFeatureAttention(
        heads,
        dim,
        features,
        feature_map,
        exact_below=None,
        use_bias=False,
        seed=11,
        **options,
    )
    width = heads * dim
    layer.build((None, None, width), (None, None, width))
    for projection in (layer.query, layer.key, layer.value):
        projection.kernel.assign(np.eye(width).reshape(width, heads, dim))
    layer.output_projection.kernel.assign(
        np.eye(width).reshape(heads, dim, width)
    )
    return layer


def split(x, heads=HEADS):
    """`[heads, batch, length, dim]` in float64."""
    x = np.asarray(x, "float64")
    return x.reshape(*x.shape[:2], heads, -1).transpose(2, 0, 1, 3)


def published(features, layer, queries, keys, mask, causal=False):
    """Attends head by head and row by row.

    `features` returns log-features of queries and keys, given all visible
    queries and keys of a head, and its draws: a function of rows for each.
    """
    heads = layer.num_heads
    draws = np.asarray(layer.features.drawn_projection, "float64")
    scale = layer.key_dim**-0.25
    outputs = []
    for head, (x, y, v) in enumerate(
        zip(
            split(queries, heads) * scale,
            split(keys, heads) * scale,
            split(keys, heads),
            strict=True,
        )
    ):
        every_x, every_y = x.reshape(-1, x.shape[-1]), y[mask]
        of_query, of_key = features(every_x, every_y, draws[head])
        rows = []
        for row in range(len(x)):
            seen = np.tile(mask[row], (x.shape[1], 1))
            seen = np.tril(seen) if causal else seen
            rows.append(
                reference.attention(
                    of_query(x[row]), of_key(y[row]), v[row], seen
                )
            )
        outputs.append(np.stack(rows))
    return np.concatenate(outputs, axis=-1)


def of_rows(formula):
    """Features that do not depend on what queries and keys look like."""

    def features(x, y, draws):
        return (functools.partial(formula, draws=draws),) * 2

    return features


def favor_plus_plus(x, y, draws):
    a = reference.best_bound(x, y)
    return (functools.partial(reference.bounded, draws=draws, a=a),) * 2


FORMULAS = {
    "favor+": of_rows(reference.positive),
    "hyperbolic": of_rows(reference.hyperbolic),
    "favor++": favor_plus_plus,
    "relu": of_rows(reference.relu),
    "elu": of_rows(reference.elu),
}


# === Equality ===


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("feature_map", FORMULAS)
def test_attention_is_as_published(feature_map, causal):
    options = PUBLISHED if feature_map == "favor++" else {}
    layer = make_layer(feature_map, causal=causal, **options)
    queries = 1.5 * normal(BATCH, LENGTH, HEADS * DIM)
    keys = 1.5 * normal(BATCH, LENGTH, HEADS * DIM, seed=4) + 0.3
    mask = np.random.default_rng(5).random((BATCH, LENGTH)) < 0.7
    mask[:, 0] = True
    # Large, so that it would be seen if padding counted.
    keys[~mask] = 100.0
    layer.adapt(queries, keys, value_mask=mask)
    expected = published(
        FORMULAS[feature_map], layer, queries, keys, mask, causal
    )
    actual = layer(queries, keys, value_mask=mask)
    assert relative_error(actual, expected) < TOLERANCE


def test_directions_and_scales_are_as_published():
    """FAVOR#, without the centring and the pairs that we add to it."""
    options = {**PUBLISHED, "covariance": "dense", "rescaling": True}
    layer = make_layer("favor++", heads=1, **options)
    stretch = np.linspace(0.3, 2.5, DIM)
    queries = normal(BATCH, LENGTH, DIM) * stretch
    keys = normal(BATCH, LENGTH, DIM, seed=4) @ normal(DIM, DIM, seed=6)
    layer.adapt(queries, keys)

    def features(x, y, draws):
        factor = reference.balance(x, y)
        a, directions = reference.best_directions(x * factor, y / factor)
        # Eigenvectors come with either sign: with that of ours.
        ours = np.linalg.lstsq(
            draws, np.asarray(layer.features.fitted_projection[0], "float64")
        )[0]
        directions = directions * np.sign(np.sum(directions * ours.T, axis=0))
        of_row = functools.partial(
            reference.directed, draws=draws, a=a, directions=directions
        )
        return lambda x: of_row(x * factor), lambda y: of_row(y / factor)

    mask = np.ones((BATCH, LENGTH), bool)
    expected = published(features, layer, queries, keys, mask)
    # float32 eigenvectors: 6e-8 over the gaps between eigenvalues.
    assert relative_error(layer(queries, keys), expected) < 1e-4


# === The formulas themselves ===

# The mean over one standard normal number: exact for polynomials up to degree
# 159, far beyond what these exponentials need.
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()


def second_moment(a, phi):
    """The mean square of FAVOR++'s estimate, of `x = y`, `|x + y|^2 = phi`."""
    x = np.array([[np.sqrt(phi) / 2]])
    features = reference.bounded(x, NODES[:, None], a)[0]
    return NODE_WEIGHTS @ np.exp(4 * features)


@pytest.mark.parametrize(
    "formula",
    [
        reference.positive,
        reference.hyperbolic,
        functools.partial(reference.bounded, a=-0.2),
    ],
)
def test_features_multiply_to_the_kernel(formula):
    """In the mean: otherwise the reference would be no reference."""
    x, y = np.array([[1.2]]), np.array([[-0.4]])
    products = np.exp(formula(x, NODES[:, None]) + formula(y, NODES[:, None]))
    weights = np.tile(NODE_WEIGHTS, products.size // NODES.size)
    np.testing.assert_allclose(products[0] @ weights, np.exp(x * y)[0, 0])


@pytest.mark.parametrize("phi", [0.1, 1.0, 4.0])
def test_bound_minimises_the_second_moment(phi):
    best = minimize_scalar(
        second_moment, bounds=(-2.0, 0.0), args=(phi,), method="bounded"
    )
    bound = float(optimal_bound(np.array([phi], "float32"))[0])
    # The moment is flat at its minimum: rounding hides more of `best` than
    # of the moment itself.
    assert abs(bound - best.x) < 1e-4
    assert second_moment(bound, phi) < second_moment(0.0, phi)


def test_bound_is_the_closed_form():
    x, y = normal(30, DIM), 0.5 * normal(40, DIM, seed=4) + 0.2
    phi = reference.mean_square_of_sums(x, y)
    bound = optimal_bound(np.array([phi / DIM], "float32"))[0]
    np.testing.assert_allclose(bound, reference.best_bound(x, y), rtol=1e-5)


# === Where the published code is wrong ===


def common_maximum(x, y, values, draws, a):
    """Features less one maximum for all keys, plus 1e-6, as published.

    The maximum is that of projections alone. In float64: what is wrong with it
    is not rounding.
    """
    b = np.sqrt(1 - 4 * a)
    of_queries = np.max(b * x @ draws.T, axis=-1, keepdims=True)
    of_keys = np.max(b * y @ draws.T)
    queries = np.exp(reference.bounded(x, draws, a) - of_queries) + 1e-6
    keys = np.exp(reference.bounded(y, draws, a) - of_keys) + 1e-6
    return queries @ (keys.T @ values) / (queries @ keys.sum(axis=0))[:, None]


@pytest.mark.parametrize("feature_map", ["favor+", "favor++"])
def test_common_maximum_and_epsilon_are_wrong(feature_map):
    """With the same draws, of 64 dimensions, at scales that are ordinary."""
    dim, length = 64, 48
    layer = make_layer(feature_map, 1, dim, 128, **PUBLISHED)
    draws = np.asarray(layer.features.drawn_projection[0], "float64")
    mask = np.ones((1, length), bool)
    theirs = {}
    for scale in (0.5, 2.0):
        queries = scale * normal(1, length, dim)
        keys = scale * normal(1, length, dim, seed=4)
        layer.adapt(queries, keys)
        expected = published(FORMULAS[feature_map], layer, queries, keys, mask)
        assert relative_error(layer(queries, keys), expected) < TOLERANCE
        x, y = (split(z, 1)[0, 0] / dim**0.25 for z in (queries, keys))
        a = reference.best_bound(x, y) if feature_map == "favor++" else 0.0
        theirs[scale] = relative_error(
            common_maximum(x, y, split(keys, 1)[0, 0], draws, a), expected[0]
        )
    assert theirs[0.5] < 0.01
    assert theirs[2.0] > 0.9


def test_decomposition_as_it_comes_is_biased():
    """The mean of a projection is zero; with the signs of QR it is not."""
    count, dim = 500, 8
    blocks = np.random.default_rng(5).normal(size=(count, dim, dim))
    lengths = np.linalg.norm(normal(count, dim, dim), axis=-1)
    raw = np.linalg.qr(blocks)[0].swapaxes(1, 2) * lengths[..., None]
    ours = np.asarray(random_projection(count, dim, dim, seed=5))
    raw, ours = (np.mean(np.diagonal(x, 0, 1, 2)) for x in (raw, ours))
    # Means of 4000 numbers of variance 1: their deviation is 0.016.
    assert raw < -0.4
    assert abs(ours) < 0.07
