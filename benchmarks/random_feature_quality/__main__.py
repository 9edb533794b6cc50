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
import sys
from typing import Any

import keras
import numpy as np

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
    """Scores the test split."""
    report = Report("Attention of the grapheme-to-phoneme model")
    for variant in variants:
        figures = {**error_rates(variant.model, test), "steps": variant.step}
        worst = worst_variance(variant.model)
        if worst is not None:
            figures["relative_variance"] = worst
        report.add_figures(
            {f"{variant.name}_{name}": each for name, each in figures.items()}
        )
    return report


def worst_variance(model: keras.Model) -> float | None:
    """Returns that of any layer's features, as they are now.

    Args:
        model: a model, trained just now or read from a file.

    Returns:
        The variance; NaN where features were never fitted, `None` for a model
        that has none.
    """
    # A mean over the last turn would be another figure than a kept model's.
    model.reset_metrics()
    variances = [
        float(metric.result())
        for metric in model.metrics
        if metric.name.endswith("relative_variance")
    ]
    return float(np.max(variances)) if variances else None


def main() -> int:
    """Trains the variants and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        default=RESULTS / "random_feature_quality.json",
    )
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
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
