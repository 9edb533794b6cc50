"""The variants that are compared, their ratios of steps, and the claims."""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from collections.abc import Sequence

from benchmarks.shared.report import Report
from benchmarks.switch_pretraining.model import Sizes
from benchmarks.switch_pretraining.model import Variant
from benchmarks.switch_pretraining.records import Record
from benchmarks.switch_pretraining.run import Schedule

LENGTH = 64
SIZES = Sizes()
DENSE = "dense"
EXPERT_CHOICE = "expert_choice_e64"
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(DENSE),
        Variant("switch_e4", 4),
        Variant("switch_e16", 16),
        Variant("switch_e64", 64),
        Variant(EXPERT_CHOICE, 64, "expert_choice"),
    )
}
LABELS = {
    DENSE: "dense",
    "switch_e4": "Switch, 4 experts",
    "switch_e16": "Switch, 16 experts",
    "switch_e64": "Switch, 64 experts",
    EXPERT_CHOICE: "expert choice, 64 experts",
}
# The dense model runs first, since its loss is the target of the others; then
# the variants of which most is claimed.
ORDER = (DENSE, *(name for name in reversed(VARIANTS) if name != DENSE))

Runs = Mapping[str, Sequence[Record]]


def ratios(runs: Runs, name: str, field: str) -> list[float]:
    """Returns, for each seed, how many times less the variant needed.

    Args:
        runs: all runs.
        name: of the variant.
        field: `"step"` or `"seconds"`.

    Returns:
        The dense model's steps or seconds over the variant's, when it was at
        the final loss of the dense model of the same seed. For a run that
        never was, below 1: what the dense model needed for that run's own
        final loss, over all that the run spent.
    """
    dense = {run.seed: run for run in runs[DENSE]}
    found = []
    for run in runs[name]:
        if run.seed not in dense:
            continue
        reference = dense[run.seed]
        spent = reference.final
        point = run.first_at(spent.loss)
        if point is None:
            point = run.final
            spent = reference.first_at(point.loss) or spent
        found.append(getattr(spent, field) / getattr(point, field))
    return found


def make_report(runs: Runs, schedule: Schedule) -> Report:
    """Returns the claims and figures of the runs that there are."""
    report = Report("Span corruption: steps to the dense model's final loss")
    report.add_figures(
        {
            **dataclasses.asdict(schedule),
            "bytes_of_a_row": LENGTH,
            **{f"sizes_{k}": v for k, v in dataclasses.asdict(SIZES).items()},
        }
    )
    steps = {}
    for name, found in runs.items():
        if not found:
            continue
        report.add_figures(
            {
                f"{name}_parameters": found[0].parameters,
                f"{name}_seeds": len(found),
                f"{name}_final_loss": statistics.fmean(
                    run.final.loss for run in found
                ),
                f"{name}_milliseconds_per_step": 1e3
                * statistics.fmean(
                    run.final.seconds / run.final.step for run in found
                ),
            }
        )
        if name != DENSE and (by_seed := ratios(runs, name, "step")):
            steps[name] = statistics.geometric_mean(by_seed)
            report.add_figures(_details(runs, name, by_seed))
    add_claims(report, steps)
    return report


def _details(runs: Runs, name: str, by_seed: list[float]) -> dict:
    dense = {run.seed: run.final.loss for run in runs[DENSE]}
    return {
        f"{name}_step_ratio_by_seed": [round(ratio, 3) for ratio in by_seed],
        f"{name}_runs_at_dense_loss": sum(
            run.seed in dense and run.first_at(dense[run.seed]) is not None
            for run in runs[name]
        ),
        f"{name}_seconds_ratio": statistics.geometric_mean(
            ratios(runs, name, "seconds")
        ),
    }


def add_claims(report: Report, steps: Mapping[str, float]) -> None:
    """Adds the claims; those of variants that were not run are NaN and fail.

    Args:
        report: where to.
        steps: the step ratio of each variant that was run.
    """
    for experts, target in ((4, 1.0), (16, 1.0), (64, 2.5)):
        ratio = steps.get(f"switch_e{experts}", math.nan)
        report.add_claim(f"step_ratio_e{experts}", ratio, target, ">=")
    chosen = steps.get(EXPERT_CHOICE, math.nan)
    switch = steps.get("switch_e64", math.nan)
    report.add_claim("expert_choice_step_ratio_e64", chosen, 2.5, ">=")
    report.add_claim(
        "expert_choice_over_switch_e64", chosen / switch, 1.0, ">="
    )
