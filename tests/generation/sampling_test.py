import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_moe.generation import Greedy
from keras_moe.generation import Sampling
from keras_moe.generation import _sampling as sampling_module
from tests.reference.sampling import distribution
from tests.reference.sampling import softmax

LOGITS = np.array([0.3, -1.0, 2.0, 1.1, -0.4, 1.2, 0.0, -1e9], "float32")
SETTINGS = [
    {},
    {"temperature": 0.6},
    {"temperature": 3.0},
    {"top_k": 4},
    {"top_k": 100},
    {"top_p": 0.75},
    {"top_p": 1.0},
    {"temperature": 1.7, "top_k": 6, "top_p": 0.85},
]
HOT = {"temperature": 1e30}


def in_graphs(*settings):
    """Each of them in a graph, and by XLA, which compiles for seconds."""
    cases = []
    for each in settings:
        usual = each in (SETTINGS[-1], HOT)
        marks = [] if usual else [pytest.mark.large]
        cases += [
            pytest.param(each, False),
            pytest.param(each, True, marks=marks),
        ]
    return cases


def rows(logits, count):
    return tf.constant(np.tile(np.float32(logits), (count, 1)))


def assert_follows(ids, expected):
    counts = np.bincount(ids, minlength=len(expected))
    possible = expected > 0
    assert not np.any(counts[~possible])
    fit = scipy.stats.chisquare(
        counts[possible], expected[possible] * counts.sum()
    )
    assert fit.pvalue > 0.001


@pytest.mark.parametrize("settings", SETTINGS)
def test_frequencies_over_rows(settings):
    sampling = Sampling(**settings, seed=11)
    ids, _ = sampling.choose(rows(LOGITS, 20_000), 5)
    assert_follows(ids, distribution(LOGITS, **settings))


def test_frequencies_over_positions():
    logits = rows(LOGITS, 1)
    choose = Sampling(temperature=1.3, top_p=0.9, seed=2).choose

    @tf.function(autograph=False)
    def draw():
        return tf.map_fn(
            lambda position: choose(logits, position)[0], tf.range(2_000)
        )

    assert_follows(draw()[:, 0], distribution(LOGITS, 1.3, top_p=0.9))


def test_frequencies_over_seeds():
    logits = rows(LOGITS, 30)
    ids = [Sampling(seed=seed).choose(logits, 0)[0] for seed in range(100)]
    assert_follows(np.concatenate(ids), distribution(LOGITS))


def test_positions_are_independent():
    logits = rows(LOGITS[:-1], 10_000)
    first, _ = Sampling().choose(logits, 0)
    second, _ = Sampling().choose(logits, 1)
    pairs = np.zeros((7, 7))
    np.add.at(pairs, (first.numpy(), second.numpy()), 1)
    assert scipy.stats.chi2_contingency(pairs).pvalue > 0.001


def test_large_vocabularies():
    # Thirty thousand tokens; groups of equal mass, far apart.
    logits = np.random.normal(size=30_000)
    groups = np.arange(30_000) // 3_000
    ids, _ = Sampling(seed=3).choose(rows(logits, 400), 0)
    expected = np.bincount(groups, weights=softmax(logits))
    assert_follows(groups[ids], expected)


# === Support ===

some_logits = hypothesis.extra.numpy.arrays(
    "float32", 6, elements=st.integers(0, 300), unique=True
).map(lambda hundredths: hundredths / np.float32(100))


@hypothesis.given(
    logits=some_logits,
    temperature=st.floats(0.8, 4.0),
    top_k=st.none() | st.integers(1, 8),
    top_p=st.none() | st.floats(0.01, 1.0),
)
def test_support(logits, temperature, top_k, top_p):
    if top_p is not None and top_p < 1.0:
        # A set whose mass is about `top_p` may or may not reach it in float32.
        mass = np.cumsum(
            np.sort(distribution(logits, temperature, top_k))[::-1]
        )
        hypothesis.assume(np.all(np.abs(mass - top_p) > 1e-5))
    expected = distribution(logits, temperature, top_k, top_p)
    # The least probable has 0.4%: it is missed once in ten million.
    ids, _ = Sampling(temperature, top_k, top_p).choose(rows(logits, 4_096), 0)
    assert set(np.unique(ids)) == set(np.flatnonzero(expected))


def test_of_equals_the_first_stay():
    logits = rows([0.0, 1.0, 1.0, 1.0], 200)
    ids, _ = Sampling(top_k=2).choose(logits, 0)
    assert set(ids.numpy()) == {1, 2}
    ids, _ = Sampling(top_p=0.5).choose(logits, 0)
    assert set(ids.numpy()) == {1, 2}


@pytest.mark.parametrize("settings, jit_compile", in_graphs(*SETTINGS, HOT))
def test_never_draws_the_forbidden(settings, jit_compile, monkeypatch):
    # What is drawn comes in place of the position.
    monkeypatch.setattr(
        sampling_module,
        "row_uniforms",
        lambda seed, drawn, count: tf.fill([count], drawn),
    )
    logits = np.random.normal(size=(200, 50)).astype("float32")
    forbidden = np.random.uniform(size=(200, 50)) < 0.7
    forbidden[:, [0, -1]] = True
    forbidden[:, 20] = False
    logits[forbidden] = -1e9
    choose = tf.function(
        Sampling(**settings).choose, jit_compile=jit_compile, autograph=False
    )
    for drawn in (0.0, 0.5, 1.0 - 2.0**-24):
        ids, log_p = choose(tf.constant(logits), tf.constant(drawn))
        assert not np.any(forbidden[np.arange(200), ids])
        assert np.all(log_p.numpy() > -50)


# === Limits ===


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 5e-324])
def test_cold_is_greedy(temperature):
    logits = tf.constant(np.random.normal(size=(300, 40)), tf.float32)
    for settings in ({}, {"top_k": 3}, {"top_p": 0.9}):
        cold = Sampling(temperature, **settings).choose(logits, 2)
        best = Greedy().choose(logits, 2)
        np.testing.assert_array_equal(cold[0], best[0])
        np.testing.assert_allclose(cold[1], best[1], rtol=1e-6)


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-9}])
def test_one_candidate_is_greedy(settings):
    logits = tf.constant(np.random.normal(size=(300, 40)), tf.float32)
    ids, _ = Sampling(**settings).choose(logits, 2)
    np.testing.assert_array_equal(ids, Greedy().choose(logits, 2)[0])


# === Repeatable ===


@pytest.mark.parametrize("settings", SETTINGS)
def test_neighbours_do_not_matter(settings):
    logits = np.random.normal(size=(12, 30)).astype("float32")
    choose = Sampling(**settings, seed=4).choose
    ids, log_p = choose(tf.constant(logits), 3)
    for count in (1, 2, 5, 11):
        alone, alone_p = choose(tf.constant(logits[:count]), 3)
        np.testing.assert_array_equal(alone, ids[:count])
        # Not to the bit: TensorFlow's softmax sums rows as they lie.
        np.testing.assert_allclose(alone_p, log_p[:count], rtol=1e-6)
    changed = logits.copy()
    changed[::2] = np.random.normal(size=(6, 30)) * 9
    np.testing.assert_array_equal(
        choose(tf.constant(changed), 3)[0][1::2], ids[1::2]
    )


def test_repeats_itself_and_nothing_else():
    logits = tf.constant(np.random.normal(size=(64, 30)), tf.float32)
    ids, _ = Sampling(seed=1).choose(logits, 0)
    again, _ = Sampling(seed=1).choose(logits, 0)
    np.testing.assert_array_equal(again, ids)
    for other in (
        Sampling(seed=2).choose(logits, 0)[0],
        Sampling(seed=1).choose(logits, 1)[0],
        # Each row has its own noise.
        Sampling(seed=1).choose(logits[::-1], 0)[0][::-1],
    ):
        assert np.mean(other.numpy() != ids.numpy()) > 0.5


@pytest.mark.parametrize("settings, jit_compile", in_graphs(*SETTINGS))
def test_in_a_graph(settings, jit_compile):
    logits = tf.constant(np.random.normal(size=(40, 30)), tf.float32)
    sampling = Sampling(**settings, seed=2**32 - 1)
    choose = tf.function(
        sampling.choose,
        input_signature=[
            tf.TensorSpec((None, 30), tf.float32),
            tf.TensorSpec((), tf.int32),
        ],
        jit_compile=jit_compile,
        autograph=False,
    )
    for position in (0, 7):
        ids, log_p = choose(logits, position)
        expected, expected_p = sampling.choose(logits, position)
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_allclose(log_p, expected_p, rtol=1e-5)
        assert ids.dtype == tf.int32
        assert log_p.dtype == tf.float32


@pytest.mark.parametrize("settings", SETTINGS)
def test_log_probability_is_the_models_own(settings):
    logits = np.random.normal(size=(40, 30))
    ids, log_p = Sampling(**settings).choose(tf.constant(logits), 0)
    log_of_all = np.log([softmax(row) for row in logits])
    expected = log_of_all[np.arange(40), ids]
    np.testing.assert_allclose(log_p, expected, rtol=1e-4)


# === Arguments ===


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": 0.0}, "`temperature` must be positive and finite"),
        ({"temperature": -1.0}, "Received: temperature=-1.0"),
        ({"temperature": float("nan")}, "`temperature` must be positive"),
        ({"temperature": float("inf")}, "`temperature` must be positive"),
        ({"top_k": 0}, "`top_k` must be a positive integer"),
        ({"top_k": 2.5}, "`top_k` must be a positive integer"),
        ({"top_p": 0.0}, r"`top_p` must be in \(0, 1\]. Received: top_p=0.0"),
        ({"top_p": 1.01}, r"`top_p` must be in \(0, 1\]"),
        ({"top_p": float("nan")}, r"`top_p` must be in \(0, 1\]"),
        ({"seed": -1}, r"`seed` must be an integer in \[0, 2\*\*32\)"),
        ({"seed": 2**32}, r"`seed` must be an integer in \[0, 2\*\*32\)"),
        ({"seed": None}, "`seed` must be an integer: there is no state"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_equal_settings_are_one_key():
    assert len({Sampling(0.5, 3), Sampling(0.5, top_k=3)}) == 1
    assert len({Sampling(0.5, 3), Sampling(0.5, 3, seed=1)}) == 2
