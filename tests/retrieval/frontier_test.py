"""Rank curves, the settings they give, and what those come to."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.retrieval import Level
from keras_moe.retrieval import bytes_per_query
from keras_moe.retrieval._exact_search import exact_search
from keras_moe.retrieval._exact_search import recall_at_k
from keras_moe.retrieval._frontier import choices_of
from keras_moe.retrieval._frontier import find_frontier
from tests.retrieval.leaf_index import LeafIndex

RNG = np.random.default_rng(2)
K = 5


@pytest.fixture(scope="module")
def case():
    """An index, queries, their neighbours, and the frontier."""
    rows = RNG.normal(size=(600, 6)).astype("float32") * 2
    queries = RNG.normal(size=(50, 6)).astype("float32")
    index = LeafIndex(rows, num_leaves=20)
    neighbors = exact_search(rows, queries, K)
    levels = index.levels(K)
    choices = [choices_of(level) for level in levels]
    ranks = index.ranks(queries, neighbors.rows, choices[0])
    frontier = find_frontier(levels, choices, ranks)
    return index, queries, neighbors, frontier


def measured(case, setting):
    index, queries, neighbors, _ = case
    _, found = index.search(queries, K, setting)
    return recall_at_k(found, neighbors, index.rows, queries).mean()


def test_predictions_are_exact_for_the_queries_they_are_made_from(case):
    """But for equal rounded scores, of which any may come first."""
    frontier = case[-1]
    assert len(frontier) > 30
    for point in frontier[::4]:
        recall = measured(case, point.settings)
        assert recall == pytest.approx(point.predicted_recall, abs=0.01)


def test_more_bytes_find_more_up_to_all(case):
    index, *_, frontier = case
    for one, other in itertools.pairwise(frontier):
        assert one.bytes_per_query < other.bytes_per_query
        assert one.predicted_recall < other.predicted_recall
    assert frontier[-1].predicted_recall == 1.0
    for point in frontier:
        cost = bytes_per_query(index.levels(K), point.settings)
        assert cost == point.bytes_per_query


def test_no_grid_beats_it(case):
    index, *_, frontier = case
    levels = index.levels(K)
    grid = itertools.product((1, 2, 3, 5, 8, 12, 20), (5, 10, 20, 50, 100))
    for leaves, candidates in grid:
        setting = {"leaves": leaves, "candidates": candidates}
        budget = bytes_per_query(levels, setting)
        within = [p for p in frontier if p.bytes_per_query <= budget]
        ours = within[-1].predicted_recall if within else 0.0
        assert ours >= measured(case, setting) - 0.02


def slow_ranks(index, queries, rows, choices):
    """Ranks by looking at every row."""
    first = np.empty(rows.shape, int)
    second = np.empty((*rows.shape, len(choices)), int)
    for q, query in enumerate(queries):
        order = list(np.argsort(-(index.centres @ query), kind="stable"))
        coarse = index.rounded @ query
        for j, row in enumerate(rows[q]):
            first[q, j] = order.index(index.leaf[row]) + 1
            for c, leaves in enumerate(choices):
                reached = np.isin(index.leaf, order[:leaves])
                above = int(np.sum(reached & (coarse > coarse[row])))
                equal = int(np.sum(reached & (coarse == coarse[row])))
                second[q, j, c] = above + equal // 2 + 1
    return first, second


@given(
    seed=st.integers(0, 1000),
    leaves=st.integers(1, 7),
    choices=st.sets(st.integers(1, 7), min_size=1),
)
@settings(max_examples=20, deadline=None)
def test_ranks(seed, leaves, choices):
    random = np.random.default_rng(seed)
    rows = random.integers(-3, 4, size=(30, 2)).astype("float32")
    queries = random.integers(-2, 3, size=(4, 2)).astype("float32")
    index = LeafIndex(rows, leaves)
    neighbors = random.integers(30, size=(4, 3))
    choices = np.array(sorted(choices))
    fast = index.ranks(queries, neighbors, choices)
    slow = slow_ranks(index, queries, neighbors, choices)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(one, other)


def test_three_levels_share_one_price():
    """The one below whose bytes are dear lets fewer through."""
    levels = [
        Level("leaves", 1, 4, 0, 100),
        Level("cheap", 1, 1000, 0, 1),
        Level("dear", 1, 1000, 0, 50),
    ]
    first = np.ones((40, 5), int)
    below = np.repeat(RNG.geometric(0.01, size=(40, 5, 1)), 4, axis=2)
    ranks = [first, below, below]
    frontier = find_frontier(levels, [choices_of(x) for x in levels], ranks)
    for point in frontier[5:-1]:
        assert point.settings["leaves"] == 1
        assert point.settings["cheap"] >= point.settings["dear"]
        found = below[..., 0] <= point.settings["dear"]
        assert point.predicted_recall == found.mean()
    assert frontier[-1].predicted_recall == 1.0


@pytest.mark.parametrize(
    ("least", "most"), [(1, 1), (1, 5), (3, 3), (7, 1000), (1, 100_000)]
)
def test_choices(least, most):
    choices = choices_of(Level("x", least, most, 0.0, 1.0))
    assert choices[0] == least and choices[-1] == most
    assert (np.diff(choices) >= 1).all()
    assert len(choices) < 200
