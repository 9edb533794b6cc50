"""Program: tunes a tree of ScaNN to the recall that its autopilot reaches.

Reads `rows.npy` and `queries.npy` in the folder it is given; prints figures.
"""

import json
import pathlib
import sys

import numpy as np

from benchmarks.retrieval.scann_index import ScannIndex
from keras_moe.retrieval import IndexTuner
from keras_moe.retrieval import Neighbors
from keras_moe.retrieval import exact_search
from keras_moe.retrieval import recall_at_k

_K = 10
_TUNE, _TEST = 4000, 4000


def main(folder: pathlib.Path) -> dict[str, float]:
    """Returns the figures."""
    queries = np.load(folder / "queries.npy")
    tuning, test = queries[:_TUNE], queries[-_TEST:]
    index = ScannIndex(folder)
    try:
        rows = index.vectors()
        _, found = index.compare(tuning)
        neighbors = exact_search(rows, tuning, _K)
        target = _recall(found, neighbors, rows, tuning)
        tuned = IndexTuner(index).fit(tuning, target_recall=target)
        times, found = index.compare(test)
        neighbors = exact_search(rows, test, _K)
        autopilot = _recall(found, neighbors, rows, test)
        ours = _recall(tuned.search(test)[1], neighbors, rows, test)
    finally:
        index.close()
    ratio = times["autopilot"] / times["tuned"]
    return {
        # At a lower recall the ratio would say nothing.
        "over_scann_autopilot": ratio if ours >= autopilot else 0.0,
        "scann_autopilot_recall": autopilot,
        "scann_autopilot_ms": times["autopilot"],
        "scann_tuned_recall": ours,
        "scann_tuned_predicted_recall": tuned.predicted_recall,
        "scann_tuned_ms": times["tuned"],
        "scann_tuned_bytes": tuned.bytes_per_query,
        **{f"scann_{name}": each for name, each in tuned.settings.items()},
    }


def _recall(
    found: np.ndarray,
    neighbors: Neighbors,
    rows: np.ndarray,
    queries: np.ndarray,
) -> float:
    return float(recall_at_k(found, neighbors, rows, queries).mean())


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]))))
