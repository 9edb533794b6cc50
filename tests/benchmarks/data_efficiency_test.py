"""The parts of the benchmark that figures hang on."""

import numpy as np
import pytest
import scipy.sparse

from benchmarks.data_efficiency import complexity
from benchmarks.data_efficiency import linear
from benchmarks.shared.glosses import bucket
from benchmarks.shared.glosses import pad
from benchmarks.shared.glosses import words_and_pairs

RANDOM = np.random.default_rng(0)


def sparse(rows, words=40):
    x = scipy.sparse.random_array(
        (rows, linear.BUCKETS), density=0.0, format="lil"
    )
    dense = RANDOM.random((rows, words)) * (RANDOM.random((rows, words)) < 0.2)
    x[:, :words] = dense
    return scipy.sparse.csr_array(x)


def test_the_fit_is_a_minimum_and_weights_are_factors():
    x, labels = sparse(60), RANDOM.integers(0, 45, 60)
    weights = RANDOM.integers(0, 3, 60).astype(float)
    kernel = linear.fit(x, labels, weights, decay=0.1)
    p = linear.probabilities(kernel, x)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    slope = (p - np.eye(45)[labels]) * weights[:, None] / 60
    gradient = x.T @ slope + 0.1 * kernel[:-1]
    assert np.abs(gradient).max() < 1e-3
    # A weight of 2 is an example twice.
    rows = np.repeat(np.arange(60), weights.astype(int))
    twice = linear.fit(
        x[rows],
        labels[rows],
        np.full(len(rows), len(rows) / 60),
        decay=0.1,
    )
    np.testing.assert_allclose(twice[:40], kernel[:40], atol=1e-3)


def test_tf_idf():
    x = linear.tf_idf([["a", "b", "a"], ["b"], [], ["c", "b"]], pool=2)
    lengths = np.sqrt(x.multiply(x).sum(axis=1))
    np.testing.assert_allclose(lengths, [1.0, 1.0, 0.0, 1.0])
    a, b = (x[0, bucket(word, linear.BUCKETS)] for word in "ab")
    # Counted twice, and rarer among the pool's rows.
    expected = np.log(3) * (np.log(3 / 2) + 1) / np.log(2)
    assert a / b == pytest.approx(expected)


def test_macro_recall_counts_classes_that_are_there():
    answers = np.eye(45)[[1, 1, 2, 0]]
    labels = np.array([1, 1, 1, 7])
    assert linear.macro_recall(answers, labels) == pytest.approx((2 / 3) / 2)


def test_words():
    assert words_and_pairs(["a", "b", "c"]) == ["a", "b", "c", "a b", "b c"]
    assert words_and_pairs([]) == []
    assert 1 <= bucket("word", 8) < 8
    np.testing.assert_array_equal(pad([[1, 2, 3], []], 2), [[1, 2], [0, 0]])


def test_order_of_complexities():
    rising = {f"complexity_teacher_{n}": n for n in complexity.EPOCHS}
    labels = ("clean", "noisy", "shuffled")
    rising |= {f"complexity_{name}": i for i, name in enumerate(labels)}
    assert complexity.in_order(rising)
    assert not complexity.in_order({**rising, "complexity_noisy": 2})
    assert not complexity.in_order({**rising, "complexity_teacher_15": 3})
