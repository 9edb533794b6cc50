"""What it saves to choose examples, and to choose what a student is shown.

```
python -m benchmarks.data_efficiency [--json FILE] [--part PART]
```

Five parts, each in a process of its own, one after the other:

- `selection`: the gloss of a synset is to find one of the 45 files that
  lexicographers keep (`make wordnet` fetches them). Of a pool of 90,000 rows
  5,000 are chosen in 6 rounds, by a linear model that learns between them.
  `best_selector_gain_over_spread`: of the selector with the best macro recall
  on validation rows, the mean gain over random rows on test rows, divided by
  the standard deviation of the gains; 5 seeds, paired.
- `draws`: `unbiased_standard_errors`: how far the weighted loss of 2,000 draws
  is from the pool's, without a cap, in standard errors; the worse mode, with
  probabilities of at least 0.01. Without that bound, 2 % of the loss lies on
  rows on which two models all but agree, and 2,000 draws hardly meet them: the
  figures stand beside it.
- `workers`: `beam_workers_agree`: 1 if one Beam worker, the same again, four of
  them on other files in another order, and `Selector.select` choose the same.
- `perturbation`: `perturbation_gain`: on 77 digits with a long tail, what noise
  on the inputs adds to plain distillation (temperature 1), the noise tuned on
  validation digits; mixup, generators and higher temperatures beside it; mean
  of 3 seeds.
- `complexity`: `complexity_orders_targets`: 1 if supervision complexity rises
  from clean labels to 20 % noisy and to shuffled ones, and over a teacher's
  checkpoints at 1, 5, 15, 30 and 60 epochs, in each of 3 seeds. Beside it, what
  students come to under the last, the best and the online teacher.

A quarter of an hour on two cores.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.shared.report import Report

_SEEDS, _SELECTION_SEEDS, _DRAWS = 3, 5, 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_efficiency"
    )
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--part", choices=_PARTS, help="one part alone")
    options = parser.parse_args(arguments)
    report = Report("Learning from less")
    if options.part is not None:
        _PARTS[options.part](report)
        return report.finish(options.json)
    with tempfile.TemporaryDirectory() as folder:
        for part in _PARTS:
            path = pathlib.Path(folder, f"{part}.json")
            command = [sys.executable, "-m", "benchmarks.data_efficiency"]
            subprocess.run([*command, "--part", part, "--json", str(path)])
            report.include(path)
    return report.finish(options.json)


def _selection(report: Report) -> None:
    from benchmarks.data_efficiency import selection

    decay = selection.tune(_SELECTION_SEEDS)
    found = [selection.compare(s, decay) for s in range(_SELECTION_SEEDS)]
    validation, test = (
        {name: np.array([each[name][i] for each in found]) for name in found[0]}
        for i in (0, 1)
    )
    for name, recalls in test.items():
        report.add_figures(
            {
                f"{name}_validation_macro_recall": float(
                    validation[name].mean()
                ),
                f"{name}_macro_recall": float(recalls.mean()),
                **_spread(f"{name}_gain", recalls - test["random"]),
            }
        )
    others = [name for name in validation if name != "random"]
    best = max(others, key=lambda name: validation[name].mean())
    gains = test[best] - test["random"]
    report.add_figures({"best_selector": best, "decay": decay})
    report.add_claim(
        "best_selector_gain_over_spread",
        float(gains.mean() / gains.std(ddof=1)),
        2.0,
        ">=",
    )


def _draws(report: Report) -> None:
    from benchmarks.data_efficiency import selection

    errors = selection.standard_errors(0, selection.DECAYS[1], _DRAWS)
    report.add_figures(
        {f"unbiased_standard_errors_{k}": v for k, v in errors.items()}
    )
    bounded = [v for k, v in errors.items() if not k.endswith("_0.0")]
    report.add_claim("unbiased_standard_errors", max(bounded), 3.0, "<=")


def _workers(report: Report) -> None:
    from benchmarks.data_efficiency import workers

    with tempfile.TemporaryDirectory() as folder:
        found = workers.measure(pathlib.Path(folder))
    report.add_figures({f"chosen_alike_{k}": int(v) for k, v in found.items()})
    report.add_claim(
        "beam_workers_agree", float(all(found.values())), 1.0, "=="
    )


def _perturbation(report: Report) -> None:
    from benchmarks.data_efficiency import perturbation

    found = _over_seeds(perturbation.measure)
    report.add_figures(
        {
            f"{name}_digits_accuracy": float(np.mean(values))
            for name, values in found.items()
            if not name.endswith("_strength") and name != "digits"
        }
    )
    report.add_figures(
        {
            f"{name}s": json.dumps(values)
            for name, values in found.items()
            if name.endswith("_strength")
        }
    )
    noise, plain, warm = (
        np.array(found[name]) for name in ("noise", "plain", "temperature")
    )
    report.add_figures(
        {
            **_spread("perturbation_gain", noise - plain),
            # A higher temperature is a simpler way to the same.
            **_spread("perturbation_gain_over_temperature", noise - warm),
        }
    )
    report.add_claim(
        "perturbation_gain", float(np.mean(noise - plain)), 0.08, ">="
    )


def _complexity(report: Report) -> None:
    from benchmarks.data_efficiency import complexity

    runs: list[dict[str, Any]] = []

    def measure(seed: int) -> dict[str, Any]:
        runs.append(complexity.measure(seed))
        return runs[-1]

    found = _over_seeds(measure)
    for name, values in found.items():
        report.add_figures({name: float(np.mean(values))})
    ordered = all(complexity.in_order(run) for run in runs)
    report.add_claim("complexity_orders_targets", float(ordered), 1.0, "==")


def _over_seeds(measure: Callable[[int], dict[str, Any]]) -> dict[str, list]:
    runs = [measure(seed) for seed in range(_SEEDS)]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: [run[name] for run in runs] for name in names}


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_deviation": float(values.std(ddof=1)),
    }


_PARTS: dict[str, Callable[[Report], None]] = {
    "selection": _selection,
    "draws": _draws,
    "workers": _workers,
    "perturbation": _perturbation,
    "complexity": _complexity,
}

if __name__ == "__main__":
    sys.exit(main())
