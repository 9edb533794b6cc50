"""Program: tunes indexes of faiss, beside a grid that was searched in full.

Reads `rows.npy` and `queries.npy` in the folder it is given; prints figures.
"""

import json
import pathlib
import sys

import faiss
import numpy as np

from benchmarks.retrieval.timing import milliseconds_a_query
from keras_moe.calibration import violation_rate
from keras_moe.retrieval import FaissIndex
from keras_moe.retrieval import IndexTuner
from keras_moe.retrieval import Neighbors
from keras_moe.retrieval import OperatingPoint
from keras_moe.retrieval import bytes_per_query
from keras_moe.retrieval import confirmation_path
from keras_moe.retrieval import exact_search
from keras_moe.retrieval import recall_at_k

_K, _TARGET = 10, 0.95
_SEEDS = 3
_TEST, _TUNE, _TUNING_SHARE = 4000, 5000, 0.8
_BUDGETS = (110_000, 140_000, 190_000, 270_000, 400_000)
_LISTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_RESCORED = (10, 20, 35, 60, 100, 150, 200, 300, 450, 700, 1000, 1500)
_DRAWS, _DRAWN = 1000, 1000


class Test:
    """Queries that no tuner saw, and what an exact search finds for them."""

    def __init__(self, rows: np.ndarray, queries: np.ndarray):
        self.rows = rows
        self.queries = queries
        self.neighbors = exact_search(rows, queries, _K)

    def recalls(self, found: np.ndarray) -> np.ndarray:
        """Returns the recall of each query."""
        return recall_at_k(found, self.neighbors, self.rows, self.queries)

    def recall(self, index: FaissIndex, settings: dict[str, int]) -> float:
        """Returns the mean recall of an index."""
        _, found = index.search(self.queries, _K, settings)
        return float(self.recalls(found).mean())


def main(folder: pathlib.Path) -> dict[str, float]:
    """Returns the figures."""
    rows, queries = (
        np.load(folder / f"{name}.npy") for name in ("rows", "queries")
    )
    test = Test(rows, queries[:_TEST])
    rest = queries[_TEST:]
    gaps, errors = [], []
    for seed in range(_SEEDS):
        drawn = np.random.default_rng(seed).choice(len(rest), _TUNE, False)
        index = FaissIndex(rows, k=_K, seed=seed)
        tuner = IndexTuner(index, tuning_share=_TUNING_SHARE, seed=seed)
        tuned = tuner.fit(rest[drawn], budget=_BUDGETS[-1])
        grid = _measure_grid(index, test)
        for budget in _BUDGETS:
            point = _best_within(tuned.frontier, budget)
            measured = test.recall(index, point.settings)
            best = _best_within(grid, budget).predicted_recall
            gaps.append(best - measured)
            errors.append(abs(point.predicted_recall - measured))
    return {
        "tuner_gap_to_grid": max(gaps),
        "prediction_error": max(errors),
        "mean_gap_to_grid": float(np.mean(gaps)),
        **_violations(index, tuned.frontier, test),
        **_row("faiss_tuned", index, tuned.frontier, test),
        **_default_row(rows, test),
        **_exact_row(test),
    }


def _measure_grid(index: FaissIndex, test: Test) -> list[OperatingPoint]:
    """Returns the points of the grid that some budget allows."""
    levels, points = index.levels(_K), []
    for lists in _LISTS:
        for rescored in _RESCORED:
            names = (level.name for level in levels)
            settings = dict(zip(names, (lists, rescored), strict=True))
            cost = bytes_per_query(levels, settings)
            if cost <= _BUDGETS[-1]:
                recall = test.recall(index, settings)
                points.append(OperatingPoint(settings, cost, recall))
    return points


def _best_within(points, budget: float) -> OperatingPoint:
    within = [point for point in points if point.bytes_per_query <= budget]
    return max(within, key=lambda point: point.predicted_recall)


def _violations(index: FaissIndex, frontier, test: Test) -> dict[str, float]:
    """Redraws the queries that confirm, from a pool that stands for all."""
    path = confirmation_path(frontier, _TARGET)
    losses = []
    for point in path:
        _, found = index.search(test.queries, _K, point.settings)
        losses.append(1.0 - test.recalls(found))
    found = violation_rate(
        np.stack(losses, axis=1),
        [point.bytes_per_query for point in path],
        tolerance=1.0 - _TARGET,
        p_value="betting",
        draws=_DRAWS,
        sample_size=_DRAWN,
    )
    risks = np.mean(losses, axis=1)
    return {
        "certified_recall_violations": found.rate,
        "certified_share": float(np.isfinite(found.thresholds).mean()),
        "recall_of_first_point_that_violates": float(
            1.0 - min(risks[risks > 1.0 - _TARGET], default=np.nan)
        ),
    }


def _row(name: str, index, frontier, test: Test) -> dict[str, float]:
    """Returns recall, bytes and time of the point of the target."""
    point = next(p for p in frontier if p.predicted_recall >= _TARGET + 0.005)

    def search():
        return index.search(test.queries, _K, point.settings)

    return {
        f"{name}_recall": test.recall(index, point.settings),
        f"{name}_ms": milliseconds_a_query({name: search}, _TEST)[name],
        f"{name}_bytes": point.bytes_per_query,
    }


def _default_row(rows: np.ndarray, test: Test) -> dict[str, float]:
    """Returns what faiss does where nobody sets anything: one list, one k."""
    lists = round(len(rows) ** 0.5)
    dim = rows.shape[1]
    index = faiss.index_factory(
        dim,
        f"IVF{lists},PQ{dim // 2}x4fs,RFlat",
        faiss.METRIC_INNER_PRODUCT,
    )
    index.train(rows)
    index.add(rows)
    _, found = index.search(test.queries, _K)
    name = "faiss_default"
    times = milliseconds_a_query(
        {name: lambda: index.search(test.queries, _K)}, _TEST
    )
    per_list = len(rows) / lists * dim / 4
    return {
        f"{name}_recall": float(test.recalls(found).mean()),
        f"{name}_ms": times[name],
        f"{name}_bytes": lists * dim * 4 + per_list + _K * dim * 4,
    }


def _exact_row(test: Test) -> dict[str, float]:
    some = test.queries[:200]

    def search() -> Neighbors:
        return exact_search(test.rows, some, _K)

    times = milliseconds_a_query({"exact": search}, len(some))
    return {"exact_ms": times["exact"], "exact_bytes": float(test.rows.nbytes)}


if __name__ == "__main__":
    faiss.omp_set_num_threads(1)
    print(json.dumps(main(pathlib.Path(sys.argv[1]))))
