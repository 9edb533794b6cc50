"""How often a teacher is right, fitted to a sample."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.distillation import TeacherAccuracy
from tests.reference.distillation import isotonic
from tests.reference.distillation import margin

SAMPLES = {
    "number": st.integers(1, 12),
    # Few levels are many ties.
    "levels": st.sampled_from([1, 3, 100]),
    "seed": st.integers(0, 999),
}


def draw(number, levels, seed):
    rng = np.random.default_rng(seed)
    lead = rng.integers(1, levels + 1, number) * (4.0 / levels)
    logits = np.stack([lead, 0 * lead, lead - 5], -1).astype("float32")
    # The first token is always the teacher's.
    return logits, rng.integers(0, 2, number)


def by_brute_force(logits, labels):
    """The accuracy of each token, ties pooled."""
    margins = np.array([margin(row) for row in logits]).round(6)
    right = (logits.argmax(-1) == labels).astype("float64")
    levels = np.unique(margins)
    rows = [margins == level for level in levels]
    fitted = isotonic(
        np.array([right[row].mean() for row in rows]),
        np.array([row.sum() for row in rows]),
    )
    return np.array(fitted)[np.searchsorted(levels, margins)]


@given(**SAMPLES)
def test_is_the_nearest_that_never_falls(**options):
    logits, labels = draw(**options)
    accuracy = TeacherAccuracy.fit(logits, labels)
    received = accuracy(logits)
    assert received.dtype == "float32"
    np.testing.assert_allclose(
        received, by_brute_force(logits, labels), atol=1e-6
    )


@given(**SAMPLES)
def test_never_falls_nor_leaves_its_range(**options):
    accuracy = TeacherAccuracy.fit(*draw(**options))
    lead = np.linspace(0, 9, 200)
    logits = np.stack([lead, 0 * lead], -1)
    received = np.asarray(accuracy(logits))
    assert (np.diff(received) >= 0).all()
    assert received.min() >= 0
    assert received.max() <= 1


@given(**SAMPLES)
def test_the_mean_is_kept(**options):
    # Whom it says to be right as often as they are, all in all.
    logits, labels = draw(**options)
    received = TeacherAccuracy.fit(logits, labels)(logits)
    right = (logits.argmax(-1) == labels).mean()
    assert np.mean(received) == pytest.approx(right, abs=1e-6)


def test_padding_is_left_out():
    logits, labels = draw(12, 100, 7)
    expected = TeacherAccuracy.fit(logits[:8], labels[:8])
    logits[8:] = np.nan
    mask = np.arange(12) < 8
    shape = (3, 4)
    received = TeacherAccuracy.fit(
        logits.reshape(*shape, 3), labels.reshape(shape), mask.reshape(shape)
    )
    assert received == expected
    labels[8:] = -100
    assert TeacherAccuracy.fit(np.nan_to_num(logits), labels) == expected
    labels[8:] = 3  # counted as an error of the teacher, once
    with pytest.raises(ValueError, match="Received: 3 at"):
        TeacherAccuracy.fit(np.nan_to_num(logits), labels)


def test_samples_of_any_shape():
    logits, labels = draw(12, 100, 7)
    accuracy = TeacherAccuracy.fit(
        tf.reshape(tf.constant(logits), (2, 6, 3)), tf.reshape(labels, (2, 6))
    )
    assert accuracy == TeacherAccuracy.fit(logits, labels)


def test_gives_one_value_for_each_token():
    accuracy = TeacherAccuracy([0.0, 0.3, 0.6], [0.1, 0.5, 0.9])
    lead = np.linspace(0.1, 3.0, 12)
    logits = np.stack([lead, 0 * lead, lead - 9], -1).astype("float32")
    margins = np.array([margin(row) for row in logits])
    expected = np.array([0.1, 0.5, 0.9], "float32")[
        (margins >= 0.3).astype(int) + (margins >= 0.6)
    ]
    assert len(np.unique(expected)) == 3
    for shape in ((12,), (3, 4), (3, 2, 2)):
        received = accuracy(tf.reshape(logits, (*shape, 3)))
        np.testing.assert_array_equal(received, expected.reshape(shape))
    assert float(accuracy(logits[0])) == expected[0]
    compiled = tf.function(accuracy.__call__, jit_compile=True, autograph=False)
    np.testing.assert_array_equal(compiled(logits), expected)


def test_steps_hold_from_their_margin_on():
    accuracy = TeacherAccuracy([0.25, 0.5], [0.125, 0.75])
    # Margins of nothing, and of about a half.
    even, half = np.zeros(2), np.array([np.log(3.0), 0.0])
    a_little_more = half + [0.01, 0]
    a_little_less = half - [0.01, 0]
    received = accuracy(np.stack([even, a_little_less, a_little_more]))
    np.testing.assert_array_equal(received, [0.125, 0.125, 0.75])
    zero = TeacherAccuracy([0.0], [0.5])
    np.testing.assert_array_equal(zero(even[None]), [0.5])


def test_forbidden_tokens_may_be_in_the_sample():
    logits = np.array([[2.0, 1.0, -np.inf], [5.0, 1.0, -np.inf]])
    accuracy = TeacherAccuracy.fit(logits, [1, 0])
    np.testing.assert_array_equal(accuracy(logits), [0.0, 1.0])


@pytest.mark.parametrize(
    ("margins", "accuracies", "message"),
    [
        ([], [], "Received: 0 and 0"),
        ([0.1], [0.2, 0.3], "Received: 1 and 2"),
        ([0.2, 0.1], [0.2, 0.3], "must ascend"),
        ([0.1, 0.1], [0.2, 0.3], "must ascend"),
        ([0.1, 0.2], [0.3, 0.2], "not fall"),
        ([0.1], [1.1], r"within \[0, 1\]"),
        ([0.1], [-0.1], r"within \[0, 1\]"),
        ([0.1], [np.nan], "must be numbers"),
        ([np.inf], [0.5], "must be numbers"),
    ],
)
def test_steps_are_checked(margins, accuracies, message):
    with pytest.raises(ValueError, match=message):
        TeacherAccuracy(margins, accuracies)


@pytest.mark.parametrize(
    ("logits", "labels", "mask", "message"),
    [
        (np.zeros((2, 3)), [0], None, r"\(2, 3\) and \(1,\)"),
        (np.zeros((2, 3)), [[0, 1]], None, r"\(2, 3\) and \(1, 2\)"),
        (np.zeros((2, 3)), [0, 1], [True], "`mask` must have the shape"),
        (np.zeros((0, 3)), [], None, "0 tokens"),
        (np.zeros((2, 3)), [0, 1], [False, False], "0 tokens"),
        ([[0.0, np.nan]], [0], None, "1 logits NaN"),
        ([[0.0, np.inf]], [0], None, "1 logits NaN or infinite"),
    ],
)
def test_samples_are_checked(logits, labels, mask, message):
    with pytest.raises(ValueError, match=message):
        TeacherAccuracy.fit(np.array(logits), np.array(labels), mask)
