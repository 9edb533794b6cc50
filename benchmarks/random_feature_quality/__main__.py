"""Grapheme to phoneme with softmax attention and with random features.

```
python -m benchmarks.random_feature_quality [--steps N] [--json FILE]
```

One model, its attention replaced: softmax with T5's relative biases, softmax
with rotary positions, and random features with rotary positions. Equal seeds,
data, order and updates. Words have about 10 letters, so that random features
save nothing here: the table says what their noise costs. A quarter of an hour
on two quiet cores. A trained model is kept; a run that was killed goes on where
it was.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import pathlib
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report
from benchmarks.shared.variant import Variant
from benchmarks.shared.variant import error_rates
from pipelines.g2p.modules import training

_FEATURES = {"attention": "random_feature", "num_random_features": 64}
_VARIANTS: dict[str, dict[str, Any]] = {
    "softmax_relative_bias": {},
    "softmax_rotary": {"position_encoding": "rotary"},
    "random_feature_rotary": _FEATURES,
}
# Validation words scored after each turn, enough for an error rate; the test
# split is scored whole.
_VALIDATION_WORDS = 1500


def report_on_test(variants: list[Variant], test: list) -> Report:
    """Scores the test split and shows it as a table."""
    report = Report("Attention of the grapheme-to-phoneme model")
    table = Table("attention", "steps", "PER, %", "WER, %", "variance")
    for variant in variants:
        rates = error_rates(variant.model, test)
        variances = [
            metric.result()
            for metric in variant.model.metrics
            if metric.name.endswith("relative_variance")
        ]
        worst = float(max(variances)) if variances else 0.0
        table.add_row(
            variant.name,
            str(variant.step),
            f"{100 * rates['phoneme_error_rate']:.2f}",
            f"{100 * rates['word_error_rate']:.2f}",
            f"{worst:.2g}",
        )
        report.add_figures(
            {
                f"{variant.name}_{name}": value
                for name, value in {**rates, "steps": variant.step}.items()
            }
        )
        if variances:
            report.add_figures({f"{variant.name}_relative_variance": worst})
    Console().print(table)
    return report


def main() -> None:
    """Trains the variants and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument(
        "--state",
        type=pathlib.Path,
        default=pathlib.Path("build/random_feature_quality"),
    )
    options = parser.parse_args()
    config = training.TrainingConfig(
        steps=options.steps,
        batch_size=256,
        peak_learning_rate=2e-3,
        max_minutes=0.0,
        label_smoothing=0.1,
    )
    variants = [
        Variant(name, overrides, config, 0.0, options.state)
        for name, overrides in _VARIANTS.items()
    ]
    splits = load_splits()
    for variant in variants:
        variant.train(splits, _VALIDATION_WORDS)
    report = report_on_test(variants, splits["test"])
    report.write(options.json or RESULTS / "random_feature_quality.json")


if __name__ == "__main__":
    main()
