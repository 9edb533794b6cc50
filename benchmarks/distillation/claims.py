"""What recipes keep of the teacher's gain, and what is claimed of it."""

import statistics

from rich.console import Console
from rich.table import Table

from benchmarks.shared.report import Report

# The student must keep a share of the teacher's gain in each of these figures.
_MEASURES = ("nats_per_token", "phoneme_error_rate")


def report_recipes(
    report: Report,
    teacher: dict[str, float],
    runs: dict[str, list[dict[str, float]]],
    console: Console,
) -> str:
    """Adds each recipe's figures and what it keeps; returns the best recipe.

    Args:
        report: where to.
        teacher: what was measured of the teacher.
        runs: recipe to the same of each seed.
        console: where the table is shown.
    """
    table = Table("model", "nats/token", "kept", "PER, %", "kept", "WER, %")
    means = {
        name: {
            figure: statistics.fmean(seed[figure] for seed in seeds)
            for figure in teacher
        }
        for name, seeds in runs.items()
    }
    spreads = {
        name: {
            figure: statistics.stdev([seed[figure] for seed in seeds])
            for figure in _MEASURES
        }
        for name, seeds in runs.items()
        if len(seeds) > 1
    }
    base = means["dense"]
    kept = {
        name: {
            figure: (base[figure] - mean[figure])
            / (base[figure] - teacher[figure])
            for figure in _MEASURES
        }
        for name, mean in means.items()
    }
    for name, mean in {"teacher": teacher, **means}.items():
        cells = []
        for figure, scale in zip(_MEASURES, (1, 100), strict=True):
            spread = scale * spreads.get(name, {}).get(figure, 0.0)
            cells.append(
                f"{scale * mean[figure]:.3f}"
                + (f" ± {spread:.3f}" if spread else "")
            )
            share = kept.get(name, {}).get(figure)
            cells.append("" if share is None else f"{share:.0%}")
        table.add_row(name, *cells, f"{100 * mean['word_error_rate']:.2f}")
        report.add_figures(
            {f"{name}_{figure}": value for figure, value in mean.items()}
        )
    for name, shares in kept.items():
        report.add_figures(
            {f"{name}_{figure}_kept": s for figure, s in shares.items()}
        )
    for name, each in spreads.items():
        report.add_figures(
            {f"{name}_{figure}_spread": s for figure, s in each.items()}
        )
    console.print(table)
    for figure in _MEASURES:
        # A share of the teacher's gain means nothing unless the gain is well
        # above what seeds change by chance.
        report.add_claim(
            f"teacher_gain_over_seed_spread_{figure}",
            (base[figure] - teacher[figure])
            / max(each[figure] for each in spreads.values()),
            2.0,
            ">",
        )
    best = min(
        (name for name in means if name != "dense"),
        key=lambda name: means[name]["phoneme_error_rate"],
    )
    report.add_claim("gain_kept", min(kept[best].values()), 0.30, ">=")
    return best
