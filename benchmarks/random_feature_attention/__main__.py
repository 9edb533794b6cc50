"""Cost and error of attention through random features.

```
python -m benchmarks.random_feature_attention [--json FILE]
```

**Cost**, beside `keras.layers.MultiHeadAttention`, as long as its scores fit in
memory: 8 heads of 64, model dimension 512, batch of 1, float32, all projections
included, forward alone and a whole training step (outputs, gradients of inputs
and weights, statistics), as a TensorFlow graph and compiled by XLA. Layers of
one length are timed in turns in one process, medians; each peak of memory is
that of a process of its own, above what it had before the call.

What bounds the training step in a graph: at 8,192 tokens the four projections
with their gradients took 225 of 430 ms in a trial; the rest is a dozen passes
over the features of each chunk, between products that XLA would fuse.

**Error** of attention weights, `|A' - A|^2 / |A|^2`, at equal numbers of
features, on the distributions of the literature and on anisotropic ones:
FAVOR+, hyperbolic and FAVOR++ as published beside the layer's default. And of
the arithmetic: float32 against float64 with the same projections.

**Streaming**: equality with the full pass, and the time of a step by position.

Some twenty minutes on two quiet cores.
"""

import argparse
import pathlib
import sys

from benchmarks.random_feature_attention import numerical
from benchmarks.random_feature_attention import plot
from benchmarks.random_feature_attention import weight_error
from benchmarks.random_feature_attention.cost import add_memory
from benchmarks.random_feature_attention.cost import add_times
from benchmarks.random_feature_attention.cost import measure_memory
from benchmarks.random_feature_attention.cost import measure_times
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report


def main() -> int:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        default=RESULTS / "random_feature_attention.json",
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = Report("Attention through random features")
    weight_error.add_claims(report)
    numerical.add_claims(report)
    peaks = {name: measure_memory(name) for name in ("forward", "both")}
    add_memory(report, peaks)
    times = {
        f"{direction}_{mode}": measure_times(
            direction, mode == "xla", options.rounds
        )
        for mode in ("graph", "xla")
        for direction in ("forward", "both")
    }
    add_times(report, times)
    report.add_figures(
        {
            f"milliseconds_{mode}_{name}": {
                length: round(1000 * t, 1) for length, t in by_length.items()
            }
            for mode, figures in times.items()
            for name, by_length in figures.items()
        }
    )
    plot.draw(times, peaks, RESULTS / "random_feature_attention.png")
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
