"""What searches find and cost, and what saved ones keep.

```
python -m benchmarks.retrieval [--json FILE] [--rounds 30] [--skip-peers]
    [--wordnet FOLDER] [--skip-search-quality]
```

Top-k, over numbers at random:

- `recall_formula_error`: greatest distance of measured recall from
  `ops.expected_recall`, over 20 settings of 400 random orders each; beside it
  the largest standard error of a mean, and the error in standard errors.
- `exact_over_*`: time of `keras.ops.top_k` over that of
  `ops.partial_reduce_top_k`, in a TensorFlow graph, in turns: above 1 where the
  approximate one is faster. No claim: on a CPU the exact one is faster, and
  more so where several of each bin are kept, a pass over all scores for each.

Indexes, over the 117,659 meanings of WordNet (words and gloss, 64 dimensions by
latent semantic analysis), found by the sentences that show their use; recall is
recall@10, times are of one thread, a query among thousands:

- `tuner_gap_to_grid`: recall of the best of 168 settings of a faiss index that
  a number of bytes allows, chosen by the very queries that it is measured
  with, less that of the settings that `IndexTuner` found on others; the worst
  of five numbers of bytes and three seeds.
- `prediction_error`: greatest distance of predicted from measured recall there.
- `certified_recall_violations`: share of 1,000 redraws of the queries that
  confirm whose certificate (recall of 0.95, confidence 95 %) is wrong.
- `over_scann_autopilot`: time of ScaNN as its autopilot sets it over that of a
  tree of ScaNN's tuned to the same recall; 0 where its recall is lower.
- `in_graph_speedup`: time of a product and a sort of all rows over that of a
  `BlockIndex` tuned to a certified recall of 0.95, one query, in sessions of
  exported models. `_over_layer`: of `layers.Retrieval`.
- `reload_difference`: of scores of `layers.Retrieval` and of `BlockIndex` after
  a `.keras` file and after a SavedModel; infinite where other strings are
  found.
- `*_recall`, `*_ms`, `*_bytes`: of an exact search in NumPy, of faiss with its
  defaults and tuned, of ScaNN by its autopilot and tuned.

The model, by `python -m benchmarks.search_quality`, which says more:

- `mrr_over_bm25`, `bm25_mrr`: how well it finds words by their glosses.

faiss, ScaNN (`build/peers/scann`, made when first needed), the graph and the
model run in processes of their own, one after the other. Less than ten minutes
on two quiet cores, three of them the model's.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.retrieval.measure import SETTINGS
from benchmarks.retrieval.measure import recall_error
from benchmarks.retrieval.measure import reload_difference
from benchmarks.retrieval.wordnet import write_vectors
from benchmarks.shared import environment
from benchmarks.shared.alternating import median_milliseconds
from benchmarks.shared.report import Report
from keras_moe.layers import Retrieval
from keras_moe.ops import choose_bins
from keras_moe.ops import partial_reduce_top_k
from keras_moe.retrieval import BlockIndex

# Programs of their own, and what they claim.
_FAISS = "benchmarks.retrieval.tune_faiss"
_SCANN = "benchmarks.retrieval.tune_scann"
_GRAPH = "benchmarks.retrieval.time_in_graph"
_CLAIMS = {
    _FAISS: (
        ("tuner_gap_to_grid", 0.01, "<="),
        ("prediction_error", 0.02, "<="),
        # Nominal, and two standard errors of 1,000 redraws.
        ("certified_recall_violations", 0.065, "<="),
    ),
    _SCANN: (("over_scann_autopilot", 2.0, ">="),),
    _GRAPH: (("in_graph_speedup", 3.5, ">="),),
}
_ONE_THREAD = {
    "KERAS_BACKEND": "tensorflow",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_PROGRAM_SECONDS = 600
_ROWS, _COLUMNS, _TARGET = 64, 131_072, 0.95


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--skip-search-quality", action="store_true")
    parser.add_argument(
        "--wordnet", type=pathlib.Path, help="folder of WordNet's data files"
    )
    options = parser.parse_args()
    report = Report("Retrieval")
    errors = [recall_error(each, seed) for seed, each in enumerate(SETTINGS)]
    report.add_claim(
        "recall_formula_error", max(e.error for e in errors), 0.005, "<="
    )
    report.add_figures(
        {
            "largest_standard_error": max(e.standard_error for e in errors),
            "worst_in_standard_errors": max(
                e.error / e.standard_error for e in errors
            ),
        }
    )
    differences = [
        reload_difference(functools.partial(layer, k=20, **options))
        for layer, options in _layers()
    ]
    report.add_claim("reload_difference", max(differences), 0.0, "==")
    for k in (10, 100):
        report.add_figures(_times(k, options.rounds))
    _add_indexes(report, options.wordnet, options.skip_peers)
    if not options.skip_search_quality:
        add_search_quality(report, options.wordnet)
    raise SystemExit(report.finish(options.json))


def add_search_quality(report: Report, wordnet: pathlib.Path | None) -> None:
    """Adds the report of `benchmarks.search_quality`, a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "search_quality.json"
        command = [sys.executable, "-m", "benchmarks.search_quality"]
        command += ["--json", str(path)]
        if wordnet is not None:
            command += ["--wordnet", str(wordnet)]
        # It ends with 1 where a claim of its own does not hold.
        subprocess.run(command, check=False)
        report.include(path)


def _layers() -> Iterator[tuple[type, dict[str, Any]]]:
    for storage in ("float32", "bfloat16", "int8"):
        yield BlockIndex, {"storage": storage}
        for target in (None, 0.9):
            yield Retrieval, {"storage": storage, "recall_target": target}


def _add_indexes(
    report: Report, wordnet: pathlib.Path | None, skip_peers: bool
) -> None:
    """Runs the programs, one after the other, and claims their figures."""
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(pathlib.Path(folder), wordnet)
        for program, claims in _CLAIMS.items():
            if program == _SCANN and skip_peers:
                continue
            said = environment.run(
                [sys.executable, "-m", program, folder],
                {**os.environ, **_ONE_THREAD},
                _PROGRAM_SECONDS,
            )
            figures = json.loads(said.splitlines()[-1])
            for name, target, relation in claims:
                report.add_claim(name, figures.pop(name), target, relation)
            report.add_figures(figures)


def _times(k: int, rounds: int) -> dict[str, float]:
    """Returns exact over approximate time, for one a bin and for several."""
    x = np.random.default_rng(0).normal(size=(_ROWS, _COLUMNS))
    scores = tf.constant(x, tf.float32)
    functions = {"exact": tf.function(lambda x: keras.ops.top_k(x, k))}
    for most in (1, 8):
        bins = choose_bins(_COLUMNS, k, _TARGET, max_per_bin=most)
        reduce = functools.partial(
            partial_reduce_top_k,
            k=k,
            num_bins=bins.num_bins,
            num_per_bin=bins.num_per_bin,
        )
        name = f"{bins.num_bins}_bins_of_{bins.num_per_bin}"
        functions[name] = tf.function(reduce, autograph=False)
    milliseconds = median_milliseconds(
        {
            name: lambda f=function: f(scores)[0].numpy()
            for name, function in functions.items()
        },
        rounds,
        warm_up_rounds=3,
    )
    exact = milliseconds.pop("exact")
    figures = {f"exact_ms_k{k}": exact}
    for name, each in milliseconds.items():
        figures[f"exact_over_{name}_k{k}"] = exact / each
    return figures


if __name__ == "__main__":
    main()
