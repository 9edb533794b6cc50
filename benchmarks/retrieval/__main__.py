"""What approximate top-k finds and costs, and what a saved index keeps.

```
python -m benchmarks.retrieval [--json FILE] [--rounds 30]
```

- `recall_formula_error`: greatest distance of measured recall from
  `ops.expected_recall`, over 20 settings of 400 random orders each; beside it
  the largest standard error of a mean, and the error in standard errors.
- `reload_difference`: of scores of `layers.Retrieval` after a `.keras` file and
  after a SavedModel; infinite where other strings are found.
- `exact_over_*`: time of `keras.ops.top_k` over that of
  `ops.partial_reduce_top_k`, in a TensorFlow graph, in turns: above 1 where the
  approximate one is faster. No claim: on a CPU the exact one is faster, and
  more so where several of each bin are kept, a pass over all scores for each.

Half a minute on two cores.
"""

import argparse
import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.retrieval.measure import SETTINGS
from benchmarks.retrieval.measure import recall_error
from benchmarks.retrieval.measure import reload_difference
from benchmarks.shared.alternating import median_milliseconds
from benchmarks.shared.report import Report
from keras_moe.ops import choose_bins
from keras_moe.ops import partial_reduce_top_k

_ROWS, _COLUMNS, _TARGET = 64, 131_072, 0.95


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--rounds", type=int, default=30)
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
        reload_difference(storage, target)
        for storage in ("float32", "bfloat16", "int8")
        for target in (None, 0.9)
    ]
    report.add_claim("reload_difference", max(differences), 0.0, "==")
    for k in (10, 100):
        report.add_figures(_times(k, options.rounds))
    report.show()
    if options.json:
        report.write(options.json)
    if not report.holds:
        raise SystemExit("A claim does not hold.")


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
