"""Recall, and what it counts."""

import numpy as np
import pytest

from keras_moe.retrieval import _exact_search
from keras_moe.retrieval._exact_search import exact_search
from keras_moe.retrieval._exact_search import recall_at_k

RNG = np.random.default_rng(1)
ROWS = RNG.normal(size=(40, 3)).astype("float32")
QUERIES = RNG.normal(size=(9, 3)).astype("float32")


def test_all_are_found_in_parts_of_any_size(monkeypatch):
    wanted = np.argsort(-(QUERIES @ ROWS.T), axis=1)[:, :4]
    for at_once in (1, 100, 10_000):
        monkeypatch.setattr(_exact_search, "_SCORES_AT_ONCE", at_once)
        found = exact_search(ROWS, QUERIES, 4)
        np.testing.assert_array_equal(found.rows, wanted)
        scores = np.take_along_axis(QUERIES @ ROWS.T, wanted, axis=1)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    assert (recall_at_k(wanted, found, ROWS, QUERIES) == 1.0).all()


def test_which_of_equal_candidates_is_found_does_not_matter():
    rows = np.repeat(ROWS[:10], 4, axis=0)
    neighbors = exact_search(rows, QUERIES, 6)
    others = neighbors.rows // 4 * 4 + (neighbors.rows + 1) % 4
    recall = recall_at_k(others, neighbors, rows, QUERIES)
    assert (recall == 1.0).all()


def test_what_is_missing_worse_or_repeated_is_not_found():
    neighbors = exact_search(ROWS, QUERIES, 4)
    worst = np.argmin(QUERIES @ ROWS.T, axis=1)
    for column, value in ((0, -1), (1, worst), (2, neighbors.rows[:, 3])):
        found = neighbors.rows.copy()
        found[:, column] = value
        recall = recall_at_k(found, neighbors, ROWS, QUERIES)
        np.testing.assert_array_equal(recall, np.full(9, 0.75))


def test_distance_of_directions():
    queries = np.concatenate([ROWS[:3] * 7, -ROWS[:1], np.zeros((1, 3))])
    found = exact_search(ROWS, queries.astype("float32"), 1).distances
    assert (found[:3] < 1e-6).all() and found[3] > 0.1 and np.isnan(found[4])


@pytest.mark.parametrize("of_rows", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("of_queries", [1e-4, 1.0, 1e4])
def test_recall_has_no_scale(of_rows, of_queries):
    rows, queries = np.float32(of_rows) * ROWS, np.float32(of_queries) * QUERIES
    scores = QUERIES.astype("float64") @ ROWS.T.astype("float64")
    order = np.argsort(-scores, axis=1)
    found = np.concatenate([order[:, :3], order[:, 10:12]], axis=1)
    neighbors = exact_search(rows, queries, k=5)
    recall = recall_at_k(found, neighbors, rows, queries)
    np.testing.assert_allclose(recall, 0.6)
