"""Ranks with ties, and BM25 held against sums by hand."""

import math

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search_quality.bm25 import BM25
from benchmarks.search_quality.bm25 import stems
from benchmarks.search_quality.ranks import K
from benchmarks.search_quality.ranks import ratio_interval
from benchmarks.search_quality.ranks import reciprocal_ranks


@given(documents=st.integers(1, 250), seed=st.integers(0, 999))
def test_ties_count_the_mean_of_all_orders(documents, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, size=(3, documents)).astype("float32")
    wanted = rng.integers(0, documents, 3)
    one_hot = np.eye(3, dtype="float32")
    found = reciprocal_ranks(one_hot, scores.T.copy(), wanted)
    for row, document in enumerate(wanted):
        own = scores[row, document]
        first = 1 + int(np.sum(scores[row] > own))
        ranks = range(first, first + int(np.sum(scores[row] == own)))
        mean = np.mean([1 / r if r <= K else 0 for r in ranks])
        assert found["mrr"][row] == pytest.approx(mean)
        for k in (1, 10, K):
            share = np.mean([rank <= k for rank in ranks])
            assert found[f"recall_at_{k}"][row] == pytest.approx(share)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize("matrix", [np.array, scipy.sparse.csr_matrix])
def test_equal_products_are_ties_whatever_their_last_digit(scale, matrix):
    """At any scale: an absolute slack makes ties of all small scores."""
    documents = scale * np.array([[0.5, 0], [0.5 + 6e-8, 0], [0.5 - 1e-5, 0]])
    query = matrix(np.array([[scale, 0]], "float32"))
    found = reciprocal_ranks(
        query, matrix(documents.astype("float32")), np.array([0])
    )
    assert found["mrr"][0] == 0.75


TEXTS = ["dog, canine", "walking dogs, dog", "a cat that walked"]


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.6, 1.0)])
def test_bm25_is_its_formula(k1, b):
    bm25 = BM25(TEXTS)
    query = "the dog walks the dog"
    got = (bm25.queries([query]) @ bm25.weights(k1, b).T).toarray()
    documents = [stems(text) for text in TEXTS]
    mean = np.mean([len(each) for each in documents])
    for document, score in zip(documents, got[0], strict=True):
        expected = 0.0
        for term in stems(query):
            holders = sum(term in each for each in documents)
            idf = math.log(1 + (3 - holders + 0.5) / (holders + 0.5))
            count = document.count(term)
            norm = k1 * (1 - b + b * len(document) / mean)
            expected += idf * count * (k1 + 1) / (count + norm)
        assert score == pytest.approx(expected, rel=1e-5)


def test_bm25_is_tuned_on_the_queries_it_is_given():
    """Short documents win where `b` is great, repeated terms where `k1` is."""
    bm25 = BM25(["dog", "dog dog cat cow", "cow"])
    for document in range(2):
        wanted = np.array([document])
        tuned = bm25.tune(["dog"], wanted)
        assert tuned.validation_mrr == 1.0
        scores = bm25.queries(["dog"]) @ bm25.weights(tuned.k1, tuned.b).T
        assert np.argmax(scores.toarray()) == document


def test_interval_of_a_ratio():
    rng = np.random.default_rng(0)
    theirs = rng.uniform(0.5, 1.5, 2000)
    low, high = ratio_interval(1.4 * theirs, theirs)
    assert low == pytest.approx(1.4) and high == pytest.approx(1.4)
    low, high = ratio_interval(rng.uniform(0.5, 1.5, 2000), theirs)
    assert 0.95 < low < 1 < high < 1.05
