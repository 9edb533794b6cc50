"""The softmax over a batch, held against one pair at a time."""

import keras_rs
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import accidental_hits
from keras_moe.losses import in_batch_softmax
from keras_moe.losses._in_batch_softmax import in_batch_hits
from tests.reference.in_batch import in_batch_mean
from tests.reference.in_batch import share_a_key


def with_gradient(scores, **options):
    scores = tf.constant(scores, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss = in_batch_softmax(scores, **options)
    return float(loss), tape.gradient(loss, scores).numpy()


@given(
    queries=st.integers(1, 6),
    more=st.integers(0, 4),
    hardest=st.sampled_from([None, 1, 2, 50]),
    corrected=st.booleans(),
    seed=st.integers(0, 999),
)
def test_equals_a_sum_over_pairs(queries, more, hardest, corrected, seed):
    rng = np.random.default_rng(seed)
    shape = (queries, queries + more)
    scores = 3 * rng.normal(size=shape)
    options = {
        "excluded": rng.random(shape) < 0.3,
        "mask": rng.random(queries) < 0.8,
    }
    probability = rng.uniform(1e-9, 1, shape[1]) if corrected else None
    weights = rng.uniform(0, 2, queries)
    expected = in_batch_mean(
        scores, weights, probability=probability, hardest=hardest, **options
    )
    loss, gradient = with_gradient(
        scores,
        sampling_probability=probability,
        num_hard_negatives=hardest,
        sample_weight=weights,
        **options,
    )
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    own = np.eye(*shape, dtype=bool)
    for row, col in np.argwhere(options["excluded"] & ~own):
        assert gradient[row, col] == 0
    assert not gradient[~options["mask"]].any()
    # What a query's document gains, its negatives lose.
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-6)


@pytest.mark.parametrize("hardest", [None, 1])
def test_what_is_left_out_may_hold_anything(hardest):
    scores = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    excluded = np.zeros((3, 4), bool)
    excluded[:, 3] = True
    options = {
        "excluded": excluded,
        "mask": np.array([True, False, True]),
        "num_hard_negatives": hardest,
    }
    expected = with_gradient(scores, **options)
    for wrong in (np.nan, np.inf, -np.inf):
        spoilt = scores.copy()
        spoilt[:, 3] = spoilt[1] = wrong
        loss, gradient = with_gradient(spoilt, **options)
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])


@pytest.mark.parametrize("hardest", [None, 1])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, 0.0])
def test_what_is_left_out_may_have_any_probability(wrong, hardest):
    """Candidates 1 and 3, of no query but one that is left out, too."""
    scores = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    excluded = np.zeros((3, 4), bool)
    excluded[:, [1, 3]] = True
    options = {
        "excluded": excluded,
        "mask": np.array([True, False, True]),
        "num_hard_negatives": hardest,
    }
    probability = np.array([0.5, 0.2, 0.1, 0.3])
    spoilt = np.array([0.5, wrong, 0.1, wrong])
    expected = with_gradient(
        scores, sampling_probability=probability, **options
    )
    loss, gradient = with_gradient(
        scores, sampling_probability=spoilt, **options
    )
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


def test_without_a_negative_the_loss_is_0():
    alone, gradient = with_gradient([[3.0]])
    assert alone == 0 and gradient == 0
    hits = accidental_hits([4, 4], [4, 4])
    assert with_gradient([[1.0, 2.0], [3.0, 4.0]], excluded=hits)[0] == 0


def test_float16_scores_are_summed_in_float32():
    scores = tf.constant([[9.0] + [0.0] * 4095], tf.float16)
    loss = in_batch_softmax(scores, num_hard_negatives=4095)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(np.log1p(4095 * np.exp(-9)), rel=1e-5)


def test_is_the_same_when_compiled():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(5, 9)).astype("float32")
    excluded = rng.random((5, 9)) < 0.4

    @tf.function(jit_compile=True)
    def compiled(scores, excluded):
        return in_batch_softmax(scores, excluded, num_hard_negatives=3)

    assert float(compiled(scores, excluded)) == pytest.approx(
        float(in_batch_softmax(scores, excluded, num_hard_negatives=3)),
        rel=1e-5,
    )


def test_correction_undoes_popularity():
    """Documents that come up more often are not pushed away for it."""
    frequent = np.array([0.5, 0.1, 0.1])
    scores = np.log(frequent) + np.zeros((3, 3))
    loss = in_batch_softmax(scores, sampling_probability=frequent)
    assert float(loss) == pytest.approx(np.log(3), rel=1e-6)


@given(
    rows=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    widths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 999),
)
def test_hits_share_a_key(rows, widths, seed):
    rng = np.random.default_rng(seed)
    one, other = (
        rng.integers(-1, 6, size) for size in zip(rows, widths, strict=True)
    )
    hits = np.asarray(accidental_hits(one, other))
    assert hits.shape == rows
    for row, column in np.ndindex(*rows):
        assert hits[row, column] == share_a_key(one[row], other[column])


def test_hits_of_large_keys_and_of_one_column():
    keys = np.array([2**40, 2**40 + 1, -1, -1])
    np.testing.assert_array_equal(
        accidental_hits(keys, keys), np.diag([True, True, False, False])
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (np.array([1.0]), "`keys` must be integers.*dtype=float64"),
        (np.array(["a"]), "`keys` must be integers"),
        (np.zeros((1, 1, 1), int), r"must have the shape.*\(1, 1, 1\)"),
    ],
)
def test_refuses_other_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        accidental_hits(keys, np.array([1]))


def test_refuses_fewer_candidates_than_queries():
    with pytest.raises(ValueError, match=r"its own. Received: shape=\(3, 2\)"):
        in_batch_softmax(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="`num_hard_negatives` must be a pos"):
        in_batch_softmax(np.zeros((2, 2)), num_hard_negatives=0)


def test_hits_are_counted_where_there_is_something_to_miss():
    scores = [[3.0, 1.0, 9.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]
    excluded = [[False, False, True], [False] * 3, [True, True, False]]
    hit, negatives = in_batch_hits(np.array(scores), np.array(excluded))
    # A tie is no hit, and neither is a query alone with its document.
    assert hit.numpy().tolist() == [1, 0, 0]
    assert negatives.numpy().tolist() == [1, 2, 0]
    _, left = in_batch_hits(
        np.array(scores), np.array(excluded), np.array([False, True, True])
    )
    assert left.numpy().tolist() == [0, 2, 0]


def test_keras_rs_still_removes_no_accidental_hits():
    """Why `accidental_hits` is not a wrapper: it adds 1e-40 to the scores.

    When this fails, wrap `keras_rs.layers.RemoveAccidentalHits` instead.
    """
    scores = np.array([[1.0, 5.0, 2.0]] * 3, "float32")
    left = keras_rs.layers.RemoveAccidentalHits()(
        scores, np.eye(3, dtype="float32"), np.array([7, 7, 8])
    )
    np.testing.assert_array_equal(left, scores)
