"""Settings that are found, measured, and certified or refused."""

import numpy as np
import pytest

from keras_moe import retrieval
from keras_moe.calibration import NotCertifiedError
from keras_moe.calibration import violation_rate
from keras_moe.retrieval._exact_search import exact_search
from keras_moe.retrieval._exact_search import recall_at_k
from tests.covering import covering
from tests.retrieval.leaf_index import LeafIndex

RNG = np.random.default_rng(4)
DIM, K = 6, 5
CENTRES = 2 * RNG.normal(size=(30, DIM))


def sample(count, spread=0.5, random=RNG):
    near = CENTRES[random.integers(len(CENTRES), size=count)]
    noise = spread * random.normal(size=(count, DIM))
    return (near + noise).astype("float32")


ROWS = sample(1500)
QUERIES = sample(900)


def leaf_index(rows=ROWS):
    return LeafIndex(rows, num_leaves=25, k=K)


def block_index(rows=ROWS, **options):
    return retrieval.BlockIndex(rows, k=K, block_size=16, **options)


def recall(index, queries, settings=None, rows=None):
    rows = index.vectors() if rows is None else rows
    neighbors = exact_search(rows, queries, K)
    _, found = index.search(queries, K, settings)
    return recall_at_k(found, neighbors, rows, queries)


@pytest.mark.parametrize(
    ("make", "target"),
    covering([leaf_index, block_index], [0.8, 0.95], strength=1),
)
def test_a_target_is_certified_and_held(make, target):
    index = make()
    tuned = retrieval.IndexTuner(index).fit(QUERIES, target_recall=target)
    assert tuned.certified_recall == pytest.approx(target)
    assert tuned.measured_recall > target
    assert tuned.predicted_recall == pytest.approx(
        tuned.measured_recall, abs=0.03
    )
    assert recall(index, sample(900), tuned.settings).mean() > target - 0.01
    assert index.settings == tuned.settings
    # A part of what an exact search reads.
    assert tuned.bytes_per_query < ROWS.nbytes / 2
    assert str(tuned) == f"recall@5 of at least {target}, confidence 95 %"


@pytest.mark.parametrize("make", [leaf_index, block_index])
def test_a_budget_is_kept_and_its_recall_certified(make):
    index = make()
    tuner = retrieval.IndexTuner(index, seed=5)
    recalls = []
    for budget in (4_500, 6_000, 14_000):
        tuned = tuner.fit(QUERIES, budget=budget)
        assert tuned.bytes_per_query <= budget
        assert tuned.certified_recall < tuned.measured_recall
        assert tuned.certified_recall > tuned.measured_recall - 0.06
        recalls.append(tuned.certified_recall)
    assert recalls == sorted(recalls)


def test_one_search_a_step_and_none_for_predictions():
    index = leaf_index()
    tuned = retrieval.IndexTuner(index).fit(QUERIES, target_recall=0.9)
    assert index.searches == len(tuned.certificate.thresholds) <= 16
    index.searches = 0
    retrieval.IndexTuner(index).fit(QUERIES, budget=9000)
    assert index.searches == 1


def test_the_seed_parts_queries_and_the_parts_are_disjoint():
    class Spy(LeafIndex):
        def ranks(self, queries, neighbors, choices):
            seen["tuning"].append(queries)
            return super().ranks(queries, neighbors, choices)

        def search(self, queries, k, settings=None):
            seen["confirming"].append(queries)
            return super().search(queries, k, settings)

    parts = []
    for seed in (0, 0, 1):
        seen = {"tuning": [], "confirming": []}
        index = Spy(ROWS, num_leaves=25, k=K)
        tuner = retrieval.IndexTuner(index, tuning_share=0.3, seed=seed)
        tuner.fit(QUERIES, budget=9000)
        tuning = {row.tobytes() for part in seen["tuning"] for row in part}
        confirming = {row.tobytes() for row in seen["confirming"][0]}
        assert (len(tuning), len(confirming)) == (270, 630)
        assert not tuning & confirming
        parts.append(tuning)
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize(
    "draws", [100, pytest.param(300, marks=pytest.mark.large)]
)
def test_the_promise_is_kept_in_most_redraws(draws):
    """Violations over redraws of the queries that confirm: 5 % and chance."""
    index = leaf_index()
    tuner = retrieval.IndexTuner(index)
    frontier = tuner.fit(QUERIES, budget=9000).frontier
    path = [p for p in frontier[::-3] if 0.8 < p.predicted_recall < 0.97]
    pool = sample(900)
    losses = np.stack(
        [1.0 - recall(index, pool, point.settings) for point in path], axis=1
    )
    found = violation_rate(
        losses,
        [point.bytes_per_query for point in path],
        tolerance=0.1,
        p_value="betting",
        draws=draws,
        sample_size=450,
    )
    # A pool that no point fails would show nothing.
    assert losses.mean(axis=0).max() > 0.1 > np.isnan(found.thresholds).mean()
    assert found.rate <= found.allowed_rate


def test_rounded_rows_are_searched_as_they_are_kept():
    index = block_index(storage="int8")
    tuned = retrieval.IndexTuner(index).fit(QUERIES, target_recall=0.95)
    kept = recall(index, QUERIES).mean()
    assert kept == pytest.approx(tuned.predicted_recall, abs=0.03)


def test_what_cannot_be_certified_is_refused():
    index = block_index()
    before = index.settings
    with pytest.raises(
        NotCertifiedError, match="recall@5 of at least 0.999 cannot be.*too few"
    ) as caught:
        retrieval.IndexTuner(index).fit(QUERIES, target_recall=0.999)
    assert caught.value.n == 450
    assert index.settings == before


class Blind(LeafIndex):
    """Never finds the best."""

    def search(self, queries, k, settings=None):
        scores, rows = super().search(queries, k, settings)
        rows[:, 0] = -1
        return scores, rows


def test_what_searches_worse_than_predicted_is_refused():
    tuner = retrieval.IndexTuner(Blind(ROWS, num_leaves=25, k=K))
    with pytest.raises(NotCertifiedError, match="predicted to find 0.9"):
        tuner.fit(QUERIES, target_recall=0.9)
    tuned = tuner.fit(QUERIES, budget=1e9)
    assert tuned.certified_recall < 0.8 < tuned.predicted_recall


def test_candidates_are_no_queries():
    message = (
        "must not be candidates of the index.*leave these out.*"
        "Received: {} of 900 that are, at rows {}, "
    )
    some = QUERIES.copy()
    some[::30] = 3 * ROWS[:30]  # of another length
    for queries, count, first in (
        (ROWS[:900], 900, "0, 1, 2"),
        (some, 30, "0, 30, 60"),
    ):
        for options in ({}, {"storage": "int8"}, {"storage": "bfloat16"}):
            tuner = retrieval.IndexTuner(block_index(**options))
            refused = message.format(count, first)
            with pytest.raises(ValueError, match=refused):
                tuner.fit(queries, target_recall=0.9)
    few = QUERIES.copy()
    few[:9] = ROWS[:9]  # titles that somebody typed
    assert retrieval.IndexTuner(block_index()).fit(few, target_recall=0.9)


def with_nan():
    queries = QUERIES.copy()
    queries[[7, 9], 2] = np.nan
    return queries


@pytest.mark.parametrize(
    ("queries", "goal", "message"),
    [
        (QUERIES, {}, "Either `target_recall` or `budget`"),
        (QUERIES, {"target_recall": 0.9, "budget": 9}, "Either.*budget=9"),
        (QUERIES, {"target_recall": 1.0}, "target_recall=1.0"),
        (QUERIES, {"target_recall": np.nan}, "target_recall=nan"),
        (QUERIES, {"budget": 0}, "budget=0"),
        (QUERIES, {"budget": 100}, "`budget` must be at least the .* bytes"),
        (QUERIES[:, :3], {"budget": 9000}, r"\[queries, 6\].*\(900, 3\)"),
        (QUERIES[0], {"budget": 9000}, r"\[queries, 6\].*\(6,\)"),
        (QUERIES[:19], {"budget": 9000}, "must be 20 at least.*19"),
        (with_nan(), {"budget": 9000}, "be finite.*2 that are not.* at 7"),
    ],
)
def test_queries_and_goals_that_are_none(queries, goal, message):
    with pytest.raises(ValueError, match=message):
        retrieval.IndexTuner(block_index()).fit(queries, **goal)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": object()}, "`index` must be TunableIndex.*lacks"),
        ({"k": 0}, "k=0"),
        ({"k": -1}, "k=-1"),
        ({"confidence_level": 1.0}, "confidence_level=1.0"),
        ({"tuning_share": 0.0}, "tuning_share=0.0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_out_of_range(options, message):
    options = {"index": leaf_index(), **options}
    with pytest.raises(ValueError, match=message):
        retrieval.IndexTuner(options.pop("index"), **options)


def test_more_results_than_candidates():
    tuner = retrieval.IndexTuner(leaf_index(), k=1501)
    with pytest.raises(ValueError, match="`k` must be at most.*1500.*k=1501"):
        tuner.fit(QUERIES, budget=9000)
