"""Quality on the CMU dictionary: sparse against FLOP-matched dense.

    python -m benchmarks.g2p_quality [--steps 1500] [--json FILE]

Trains both for the same number of steps under the same schedule, and records
the learning curve. A trained model is kept; a run that was killed goes on where
it was when it is started again. A quarter of an hour on two quiet cores; for a
night, `--steps 40000 --dropout-rate 0.1`.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import json
import pathlib
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report
from benchmarks.shared.variant import Variant
from benchmarks.shared.variant import error_rates
from pipelines.g2p.modules import training

# The variants are otherwise alike: in training, a Switch layer computes as much
# for a token as the dense layer that it replaces (times the capacity factor).
_VARIANTS: dict[str, dict[str, Any]] = {
    "sparse": {},
    "dense": {"num_experts": 0},
}
# Word error rates on CMUdict without stress, as published, on other versions of
# the dictionary and other splits than ours.
_PUBLISHED = (
    ("bidirectional LSTM (arXiv:1506.00196)", 23.55),
    ("LSTM with n-gram (Rao et al., 2015)", 21.3),
    ("attention ensemble (arXiv:1610.06540)", 20.24),
    ("Transformer 4x4 (arXiv:2004.06338; from memory)", 22.1),
)


def plot(variants: list[Variant], path: pathlib.Path) -> None:
    """Draws the word error rate over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for variant in variants:
        axes.plot(
            [point["step"] for point in variant.curve],
            [100 * point["word_error_rate"] for point in variant.curve],
            marker="o",
            markersize=3,
            label=f"{variant.name}, {variant.model.count_params():,} weights",
        )
    axes.set(
        xlabel="updates of 512 words",
        ylabel="word error rate, % (validation)",
        title="CMU dictionary, equal steps and equal cost of a token",
        yscale="log",
    )
    ticks = [25, 30, 40, 60, 100]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def show_published(variants: list[Variant], rates: dict, console) -> None:
    """Prints our test figures beside published ones."""
    table = Table("model", "WER, %", title="CMUdict without stress")
    for variant in variants:
        rate = 100 * rates[variant.name]["word_error_rate"]
        name = f"ours, {variant.name}, {variant.step:,} steps"
        table.add_row(name, f"{rate:.2f}")
    for name, rate in _PUBLISHED:
        table.add_row(name, f"{rate:.2f}")
    console.print(table)
    console.print(
        "The published figures are on other versions of the dictionary and "
        "other splits: near, not equal, conditions."
    )


def main() -> int:
    """Trains, then reports on the test split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    # Up to some ten passes over the dictionary there is nothing to regularise.
    parser.add_argument("--dropout-rate", type=float, default=0.0)
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "g2p_quality.json"
    )
    parser.add_argument(
        "--state", type=pathlib.Path, default=pathlib.Path("build/g2p_quality")
    )
    options = parser.parse_args()
    config = training.TrainingConfig(
        steps=options.steps,
        batch_size=512,
        peak_learning_rate=2e-3,
        max_minutes=0.0,
        label_smoothing=0.1,
    )
    console = Console()
    splits = load_splits()
    variants = [
        Variant(name, overrides, config, options.dropout_rate, options.state)
        for name, overrides in _VARIANTS.items()
    ]
    for variant in variants:
        variant.train(splits, on_point=lambda: record(variants))
    report = report_on_test(variants, splits["test"], console)
    return report.finish(options.json)


def record(variants: list[Variant]) -> None:
    """Draws and writes the curves as far as they are."""
    plot(variants, RESULTS / "g2p_quality.png")
    curves = {variant.name: variant.curve for variant in variants}
    (RESULTS / "g2p_quality_curves.json").write_text(
        json.dumps(curves, indent=1) + "\n"
    )


def report_on_test(
    variants: list[Variant], test: Entries, console: Console
) -> Report:
    """Scores the test split, prints it beside published figures."""
    rates = {v.name: error_rates(v.model, test) for v in variants}
    report = Report("Grapheme to phoneme, test split")
    report.add_figures({"planned_steps": variants[0].config.steps})
    report.add_figures(
        {
            f"{variant.name}_{figure}": value
            for variant in variants
            for figure, value in {
                **rates[variant.name],
                "parameters": variant.model.count_params(),
                "steps": variant.step,
            }.items()
        }
    )
    sparse, dense = rates["sparse"], rates["dense"]
    report.add_claim(
        "sparse_word_error_rate", sparse["word_error_rate"], 0.20, "<="
    )
    report.add_claim(
        "sparse_over_dense_word_error_rate",
        sparse["word_error_rate"] / dense["word_error_rate"],
        1.0,
        "<",
    )
    show_published(variants, rates, console)
    return report


if __name__ == "__main__":
    sys.exit(main())
