import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import entropy_confidence
from keras_moe.ops import softmax_margin
from keras_moe.ops import state_saturation

LOGITS = {
    "shape": st.sampled_from([(2,), (9,), (3, 2), (2, 4, 33)]),
    "scale": st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    "forbidden": st.sampled_from([0.0, 0.5]),
    "seed": st.integers(0, 999),
}


def draw(shape, scale, forbidden, seed):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=shape)
    banned = rng.random(shape) < forbidden
    banned[..., 0] = False
    return np.where(banned, -1e9, logits).astype("float32")


def softmax(logits):
    logits = np.float64(logits)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def margin(logits):
    p = np.sort(softmax(logits), -1)
    return p[..., -1] - p[..., -2]


def certainty(logits):
    p = softmax(logits)
    plogp = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    return 1.0 + plogp.sum(-1) / np.log(p.shape[-1])


def cosine(before, after):
    before, after = np.float64(before), np.float64(after)
    norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
    product = (before * after).sum(-1)
    return np.where(norms > 0, product / np.where(norms > 0, norms, 1), 0.0)


# === Of logits ===


@pytest.mark.parametrize(
    ("function", "reference"),
    [(softmax_margin, margin), (entropy_confidence, certainty)],
)
@given(**LOGITS)
def test_scores_of_logits_equal_float64(function, reference, **shape):
    logits = draw(**shape)
    received = function(logits)
    assert received.dtype == "float32"
    assert received.shape == logits.shape[:-1]
    np.testing.assert_allclose(received, reference(logits), atol=3e-6)
    assert np.min(received) >= 0.0
    assert np.max(received) <= 1.0


@pytest.mark.parametrize("function", [softmax_margin, entropy_confidence])
@given(**LOGITS, shift=st.sampled_from([-64.0, 0.5, 4096.0]))
def test_a_shift_of_all_logits_changes_nothing(function, shift, **shape):
    # Where float32 holds the sum exactly.
    logits = np.round(draw(**{**shape, "forbidden": 0.0, "scale": 4.0}) * 8) / 8
    np.testing.assert_allclose(
        function(logits + shift), function(logits), atol=3e-6
    )


@pytest.mark.parametrize("function", [softmax_margin, entropy_confidence])
def test_the_ends_of_the_scale(function):
    size = 50
    flat, sure = np.zeros((1, size)), np.zeros((1, size))
    sure[0, 7] = 1e4
    assert float(function(flat)[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(function(sure)[0]) == 1.0
    # A single token that is not forbidden is sure, whatever forbids.
    for forbidden in (-1e9, -np.inf, np.finfo("float32").min):
        logits = np.full((1, size), forbidden)
        logits[0, 3] = -2.0
        assert float(function(logits)[0]) == 1.0


def test_forbidden_tokens_do_not_lead():
    logits = np.log([[0.2, 0.5, 0.3, 1e-30]])
    logits[0, 3] = -1e9
    assert float(softmax_margin(logits)[0]) == pytest.approx(0.2, rel=1e-5)
    # The entropy is relative to the whole vocabulary, forbidden or not.
    entropy = -sum(p * np.log(p) for p in (0.2, 0.5, 0.3))
    assert float(entropy_confidence(logits)[0]) == pytest.approx(
        1 - entropy / np.log(4), rel=1e-5
    )


def test_two_that_lead_together_are_not_sure():
    logits = np.array([[3.0, 3.0, -50.0]])
    assert float(softmax_margin(logits)[0]) == 0.0


@pytest.mark.parametrize(
    ("function", "reference"),
    [(softmax_margin, margin), (entropy_confidence, certainty)],
)
def test_half_precision_is_computed_in_float32(function, reference):
    logits = tf.cast(draw((20, 40), 3.0, 0.2, 1), "bfloat16")
    received = function(logits)
    assert received.dtype == "float32"
    expected = reference(tf.cast(logits, "float64").numpy())
    np.testing.assert_allclose(received, expected, atol=3e-6)


def test_sharper_logits_are_surer():
    logits = np.random.default_rng(0).normal(size=(30, 16))
    for function in (softmax_margin, entropy_confidence):
        scores = [np.asarray(function(t * logits)) for t in (0.5, 1.0, 2.0)]
        assert (np.diff(scores, axis=0) > 0).all()


# === Of states ===


@given(
    st.sampled_from([(1,), (16,), (3, 2, 5)]),
    st.sampled_from([1e-12, 1e-8, 1.0, 1e8, 1e12]),
    st.sampled_from([1e-12, 1e-8, 1.0, 1e8, 1e12]),
    st.integers(0, 999),
)
def test_saturation_equals_float64(shape, scale, other_scale, seed):
    rng = np.random.default_rng(seed)
    before = (scale * rng.normal(size=shape)).astype("float32")
    after = (other_scale * rng.normal(size=shape)).astype("float32")
    received = state_saturation(before, after)
    assert received.dtype == "float32"
    assert received.shape == shape[:-1]
    np.testing.assert_allclose(received, cosine(before, after), atol=3e-6)
    # It has no scale of its own.
    np.testing.assert_allclose(
        state_saturation(4 * before, after / 4), received, atol=1e-6
    )


def test_saturation_never_leaves_its_range():
    # A threshold above 1 must not be reached by rounding.
    x = np.random.default_rng(0).normal(size=(20_000, 16)).astype("float32")
    same, opposite = state_saturation(x, x), state_saturation(x, -x)
    np.testing.assert_allclose(same, 1.0, atol=1e-6)
    np.testing.assert_allclose(opposite, -1.0, atol=1e-6)
    assert np.max(same) <= 1.0
    assert np.min(opposite) >= -1.0


def test_a_zero_vector_is_not_sure():
    x = np.ones((1, 4), "float32")
    for pair in ((x, 0 * x), (0 * x, x), (0 * x, 0 * x)):
        assert float(state_saturation(*pair)[0]) == 0.0


def test_saturation_of_half_precision_is_computed_in_float32():
    rng = np.random.default_rng(3)
    before, after = (
        tf.cast(rng.normal(size=(9, 64)), "bfloat16") for _ in range(2)
    )
    received = state_saturation(before, after)
    assert received.dtype == "float32"
    expected = cosine(*(tf.cast(x, "float64").numpy() for x in (before, after)))
    np.testing.assert_allclose(received, expected, atol=3e-6)
