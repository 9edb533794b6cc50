import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import exit_classifier_loss
from keras_moe.losses._exit_classifier import EXIT_CLASSIFIER_LOSSES

SHAPES = {
    "exits": st.integers(1, 5),
    "tokens": st.sampled_from([(1,), (7,), (2, 5)]),
    "share": st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    "real": st.sampled_from([0.0, 0.6, 1.0]),
    "scale": st.sampled_from([0.1, 3.0, 300.0]),
    "seed": st.integers(0, 999),
}


def draw(exits, tokens, share, real, scale, seed):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(exits, *tokens)).astype("float32")
    agrees = rng.random((exits, *tokens)) < share
    return logits, agrees, rng.random(tokens) < real


def log_sigmoid(x):
    x = np.float64(x)
    return -np.log1p(np.exp(-x)) if x > 0 else x - np.log1p(np.exp(x))


def independent(logits, agrees, mask):
    """Half of the mean cost of either answer, where both are given."""
    losses = []
    for logit_row, agree_row in zip(logits, agrees, strict=True):
        costs = {True: [], False: []}
        for index in np.argwhere(mask):
            logit, agree = logit_row[tuple(index)], agree_row[tuple(index)]
            sign = 1 if agree else -1
            costs[bool(agree)].append(-log_sigmoid(sign * logit))
        both = costs[True] and costs[False]
        losses.append(
            (np.mean(costs[True]) + np.mean(costs[False])) / 2 if both else 0
        )
    return np.mean(losses)


def geometric(logits, agrees, mask):
    """Of each token: past all exits that differ, out at the first that agrees.

    The last layer, which is not among them, agrees for sure.
    """
    costs = []
    for index in map(tuple, np.argwhere(mask)):
        cost = 0.0
        for exit_ in range(len(logits)):
            logit = logits[(exit_, *index)]
            if agrees[(exit_, *index)]:
                cost -= log_sigmoid(logit)
                break
            cost -= log_sigmoid(-logit)
        costs.append(cost)
    return np.mean(costs) if costs else 0.0


REFERENCES = {"independent": independent, "geometric": geometric}


@pytest.mark.parametrize("kind", EXIT_CLASSIFIER_LOSSES)
@given(**SHAPES)
def test_equals_the_loop(kind, **shape):
    logits, agrees, mask = draw(**shape)
    for m in (mask, None):
        received = exit_classifier_loss(logits, agrees, m, kind)
        assert received.dtype == "float32"
        assert received.shape == ()
        whole = np.ones_like(mask) if m is None else m
        expected = REFERENCES[kind](logits, agrees, whole)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", EXIT_CLASSIFIER_LOSSES)
@given(**SHAPES)
def test_padding_has_no_say(kind, **shape):
    logits, agrees, mask = draw(**shape)
    expected = exit_classifier_loss(logits, agrees, mask, kind)
    other = np.where(mask, logits, -7.0), np.where(mask, agrees, ~agrees)
    received = exit_classifier_loss(*other, mask, kind)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@given(**{**SHAPES, "tokens": st.just((9,))}, times=st.integers(2, 6))
def test_independent_does_not_care_how_rare_an_answer_is(times, **shape):
    logits, agrees, _ = draw(**{**shape, "exits": 1})
    repeats = np.where(agrees[0], 1, times)
    expected = exit_classifier_loss(logits, agrees)
    received = exit_classifier_loss(
        np.repeat(logits, repeats, 1), np.repeat(agrees, repeats, 1)
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


@given(st.integers(1, 6), st.integers(0, 999))
def test_geometric_is_a_distribution_over_where_to_leave(exits, seed):
    logits = np.random.default_rng(seed).normal(size=(exits, 1))
    # Row `first` agrees from there on: one leaves there.
    total = sum(
        np.exp(
            -exit_classifier_loss(
                logits, np.arange(exits)[:, None] >= first, kind="geometric"
            )
        )
        for first in range(exits + 1)
    )
    assert total == pytest.approx(1.0, rel=1e-5)


def test_geometric_ignores_what_lies_above_the_first_that_agrees():
    agrees = np.array([[False], [True], [False], [True]])
    logits = np.array([[1.0], [2.0], [3.0], [4.0]])
    expected = exit_classifier_loss(logits, agrees, kind="geometric")
    logits[2:] = -50.0
    received = exit_classifier_loss(logits, agrees, kind="geometric")
    assert float(received) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", EXIT_CLASSIFIER_LOSSES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite_and_point_the_right_way(kind, scale):
    agrees = np.array([[True, False, True], [True, True, False]])
    logits = tf.Variable(scale * np.where(agrees, -1.0, 1.0))  # all wrong
    with tf.GradientTape() as tape:
        loss = exit_classifier_loss(logits, agrees, kind=kind)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    seen = np.ones_like(agrees)
    if kind == "geometric":
        seen[1, [0, 2]] = False  # above the first that agrees
    np.testing.assert_array_equal(
        np.sign(gradient), seen * np.where(agrees, -1, 1)
    )


def test_half_precision_is_not_computed_in():
    logits, agrees = np.array([[1.0, 2.0]]), np.array([[True, False]])
    loss = exit_classifier_loss(tf.constant(logits, "bfloat16"), agrees)
    assert loss.dtype == "float32"
    expected = independent(logits, agrees, np.ones(2))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'geometric'.*kind='focal'"):
        exit_classifier_loss([[0.0]], [[True]], kind="focal")


@pytest.mark.parametrize("kind", EXIT_CLASSIFIER_LOSSES)
@given(**SHAPES)
def test_weights_are_factors_of_costs(kind, **shape):
    logits, agrees, mask = draw(**shape)
    plain = exit_classifier_loss(logits, agrees, mask, kind)

    def weighted(weights):
        return exit_classifier_loss(logits, agrees, mask, kind, weights)

    rows = np.arange(len(mask)) % 3
    np.testing.assert_allclose(weighted(2.0 * np.ones(len(mask))), 2 * plain)
    np.testing.assert_allclose(weighted(np.ones(mask.shape)), plain, rtol=1e-6)
    parts = [weighted((rows == which) * 1.0) for which in range(3)]
    np.testing.assert_allclose(np.sum(parts), plain, rtol=1e-4, atol=1e-6)
