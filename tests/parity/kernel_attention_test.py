"""Our attention against the TensorFlow Model Garden's `KernelAttention`.

With equal projections, on equal inputs. Where theirs is right, outputs are
equal; where it is wrong, the test says how much, and that ours is not. Both
layers' weights are identities, so that inputs are heads, side by side.

The peer runs in an environment of its own, which is made when it is first
needed: from a package registry, 2 GB.
"""

import json
import subprocess

import numpy as np
import pytest

from benchmarks.shared import environment
from keras_moe.layers import RandomFeatureAttention
from keras_moe.ops import random_projection
from tests.reference import random_features as reference

pytestmark = pytest.mark.large
BATCH, LENGTH, HEADS, DIM, FEATURES = 2, 24, 2, 8, 32
WIDTH = HEADS * DIM
# Theirs adds 1e-6 to denominators.
TOLERANCE = 1e-5
# FAVOR++ as published.
PUBLISHED = {
    "feature_map": "favor++",
    "covariance": "isotropic",
    "centering": False,
    "rescaling": False,
}
# Chunks of one position, and all of them in the window: causal attention.
CAUSAL = {
    "use_causal_windowed": True,
    "causal_chunk_length": 1,
    "causal_window_length": LENGTH,
    "causal_window_decay": 1.0,
}


def itself(name: str, **case) -> dict:
    return {"query": name, "key": name, **case}


CASES = {
    **{
        f"{transform}_{name}": itself("tokens", transform=transform, **case)
        for transform in ("relu", "elu")
        for name, case in {
            "full": {},
            "masked": {"mask": "mask"},
            "causal": CAUSAL,
            "streamed": {**CAUSAL, "stream": True},
        }.items()
    },
    "exp_small": itself("small", transform="exp"),
    "exp_sums": itself("large", transform="exp", value="ones"),
    "exp_causal": itself("tokens", transform="exp", **CAUSAL),
    "exp_streamed": itself("tokens", transform="exp", stream=True, **CAUSAL),
    "exp_hidden": itself("tokens", transform="exp", mask="mask"),
    "exp_hidden_louder": itself("louder", transform="exp", mask="mask"),
    # `scale=1.0` leaves the scaling to the features.
    "expplus_once": itself("one", transform="expplus", scale=1.0),
    "expplus_twice": itself("one", transform="expplus", projection="many"),
    "expplus_across": {
        "query": "few",
        "key": "one",
        "transform": "expplus",
        "projection": "many",
        "scale": 1.0,
    },
    "expplus_ordinary": itself(
        "ordinary", transform="expplus", projection="many", scale=1.0
    ),
    "expplus_beside": itself("tokens", transform="expplus", scale=1.0),
    "expplus_beside_loud": itself("loud", transform="expplus", scale=1.0),
}


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    tokens = generator.normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
    mask = generator.random((BATCH, LENGTH)) < 0.7
    # Hidden keys say something else; the second example becomes loud.
    louder, loud = tokens.copy(), tokens.copy()
    louder[~mask] *= 8.0
    loud[1] *= 8.0
    return {
        "tokens": tokens,
        "small": 0.1 * tokens,
        "large": 2.0 * tokens,
        "ones": np.ones_like(tokens),
        "mask": mask,
        "louder": louder,
        "loud": loud,
        "ordinary": tokens[:1],
        # Of a scale at which their 1e-6 has next to no effect.
        "one": 0.5 * tokens[:1],
        "few": 0.5 * tokens[:1, :2],
        "projection": projection(FEATURES),
        "many": projection(8192),
    }


def projection(features: int) -> np.ndarray:
    return np.asarray(random_projection(1, features, DIM, seed=7)[0])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("kernel_attention")
    source, target = folder / "given.npz", folder / "answer.npz"
    np.savez(source, cases=json.dumps(CASES), **arrays())
    python = environment.make("tf_models")
    subprocess.run(
        [python, "-m", "tests.parity.kernel_attention_program", source, target],
        cwd=environment.ROOT,
        check=True,
    )
    return dict(np.load(target))


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    return arrays()


def make_layer(
    feature_map: str, draws: np.ndarray, causal: bool = False, **options
) -> RandomFeatureAttention:
    layer = RandomFeatureAttention(
        HEADS,
        DIM,
        len(draws),
        feature_map,
        causal=causal,
        antithetic=False,
        redraw_interval=None,
        exact_below=None,
        use_bias=False,
        **options,
    )
    layer.build((None, None, WIDTH), (None, None, WIDTH))
    eye = np.eye(WIDTH)
    for to_heads in (layer.query, layer.key, layer.value):
        to_heads.kernel.assign(eye.reshape(WIDTH, HEADS, DIM))
    layer.output_projection.kernel.assign(eye.reshape(HEADS, DIM, WIDTH))
    for weight in ("drawn_projection", "fitted_projection"):
        every = np.broadcast_to(draws, (HEADS, *draws.shape))
        getattr(layer.features, weight).assign(every)
    return layer


def stream(layer: RandomFeatureAttention, tokens: np.ndarray) -> np.ndarray:
    outputs, state = [], layer.init_state(len(tokens))
    for i in range(tokens.shape[1]):
        output, state = layer.step(tokens[:, i : i + 1], state)
        outputs.append(output)
    return np.concatenate(outputs, axis=1)


def softmax_attention(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """What FAVOR++ approximates."""
    heads = []
    for head in range(HEADS):
        part = slice(head * DIM, (head + 1) * DIM)
        x, y = (np.asarray(z[0, :, part], "float64") for z in (queries, keys))
        heads.append(reference.exact_attention(x / DIM**0.25, y / DIM**0.25, y))
    return np.concatenate(heads, axis=-1)[None]


def error(actual, expected) -> float:
    """The relative error, of whole arrays."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


# === Equal ===


@pytest.mark.parametrize("feature_map", ["relu", "elu"])
def test_other_kernels_are_equal(theirs, given, feature_map):
    tokens, draws = given["tokens"], given["projection"]
    layer = make_layer(feature_map, draws)
    causal = make_layer(feature_map, draws, causal=True)
    ours = {
        "full": layer(tokens, tokens),
        "masked": layer(tokens, tokens, value_mask=given["mask"]),
        "causal": causal(tokens, tokens),
        "streamed": stream(causal, tokens),
    }
    for name, output in ours.items():
        assert error(output, theirs[f"{feature_map}_{name}"]) < TOLERANCE, name


def test_positive_features_are_equal_at_small_scale(theirs, given):
    layer = make_layer("favor+", given["projection"])
    ours = layer(given["small"], given["small"])
    assert error(ours, theirs["exp_small"]) < TOLERANCE


def test_bounded_features_are_equal_if_they_are_scaled_once(theirs, given):
    layer = make_layer(draws=given["projection"], **PUBLISHED)
    layer.adapt(given["one"], given["one"])
    ours = layer(given["one"], given["one"])
    # Their 1e-6, at half the scale of normal inputs.
    assert error(ours, theirs["expplus_once"]) < 1e-3


# === Theirs is wrong ===


def test_their_weights_do_not_sum_to_one(theirs, given):
    """Values of one are averaged to next to nothing, at scale 2."""
    layer = make_layer("favor+", given["projection"])
    ours = layer(given["large"], given["ones"], key=given["large"])
    np.testing.assert_allclose(ours, 1.0, atol=TOLERANCE)
    assert np.mean(theirs["exp_sums"]) < 0.01


def test_their_streaming_differs_from_their_full_pass(theirs, given):
    """Each step has a maximum of its own, which sums of others do not know."""
    layer = make_layer("favor+", given["projection"], causal=True)
    tokens = given["tokens"]
    assert error(stream(layer, tokens), layer(tokens, tokens)) < TOLERANCE
    assert error(theirs["exp_streamed"], theirs["exp_causal"]) > 0.1


def test_their_hidden_keys_are_seen(theirs, given):
    """The maximum is taken of what is hidden, too."""
    layer = make_layer("favor+", given["projection"])
    mask = given["mask"]
    ours, louder = (
        np.asarray(layer(given[name], given[name], value_mask=mask))
        for name in ("tokens", "louder")
    )
    # Rows that are not hidden themselves: their queries are the same.
    np.testing.assert_array_equal(ours[mask], louder[mask])
    before, after = theirs["exp_hidden"], theirs["exp_hidden_louder"]
    assert error(after[mask], before[mask]) > 0.5


def test_their_examples_are_not_independent(theirs, given):
    """One maximum for the keys of a batch: example 1 changes example 0."""
    layer = make_layer("favor+", given["projection"])
    ours, loud = (layer(given[n], given[n])[0] for n in ("tokens", "loud"))
    np.testing.assert_array_equal(ours, loud)
    before, after = theirs["expplus_beside"], theirs["expplus_beside_loud"]
    assert error(after[0], before[0]) > 0.1


def test_their_bounded_features_are_scaled_twice(theirs, given):
    """By the layer and by the features: softmax over `dim`, not its root."""
    one = given["one"]
    layer = make_layer(draws=given["many"], **PUBLISHED)
    layer.adapt(one, one)
    exact = softmax_attention(one, one)
    assert error(layer(one, one), exact) < 0.05
    assert error(theirs["expplus_twice"], exact) > 0.3
    # Which it is: equal to ours, of what has been scaled before.
    scaled = one / DIM**0.25
    layer.adapt(scaled, scaled)
    ours = layer(scaled, one, key=scaled)
    assert error(ours, theirs["expplus_twice"]) < 1e-3


def test_their_bounded_features_drown_in_their_epsilon(theirs, given):
    """Of normal inputs; more features do not help, but raise the maximum."""
    ordinary = given["ordinary"]
    layer = make_layer(draws=given["many"], **PUBLISHED)
    layer.adapt(ordinary, ordinary)
    exact = softmax_attention(ordinary, ordinary)
    assert error(layer(ordinary, ordinary), exact) < 0.1
    assert error(theirs["expplus_ordinary"], exact) > 0.9


def test_their_bounds_differ_across_lengths(theirs, given):
    """Sums over queries are divided by the number of keys, or vice versa."""
    few, one = given["few"], given["one"]
    layer = make_layer(draws=given["many"], **PUBLISHED)
    layer.adapt(few, one)
    exact = softmax_attention(few, one)
    ours = error(layer(few, one), exact)
    assert ours < 0.05
    assert error(theirs["expplus_across"], exact) > 3.0 * ours


def test_their_projections_are_biased(theirs):
    ours = np.asarray(random_projection(300, DIM, DIM, seed=7))
    # Means of 2400 numbers of variance 1: their deviation is 0.02.
    assert np.mean(np.diagonal(theirs["drawn"], 0, 1, 2)) < -0.4
    assert abs(np.mean(np.diagonal(ours, 0, 1, 2))) < 0.1


def test_their_redraws_have_the_same_lengths(theirs):
    """Directions are drawn again, lengths are not."""
    assert error(*theirs["redrawn"]) > 0.5
    theirs = np.linalg.norm(theirs["redrawn"], axis=-1)
    ours = [
        np.linalg.norm(random_projection(1, FEATURES, DIM, seed=7, draw=draw))
        for draw in range(2)
    ]
    np.testing.assert_allclose(theirs[0], theirs[1], rtol=1e-5)
    assert abs(ours[0] - ours[1]) > 1e-2
