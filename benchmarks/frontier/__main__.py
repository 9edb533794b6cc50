"""Error over cost on the CMU dictionary: does adapting beat a smaller model?

    python -m benchmarks.frontier [--json FILE] [--student_updates N]

Static students of one, two and three decoder layers, taught alike; against
students with early exits, and cascades: a small stage that defers what it is
unsure of to the teacher, or to the largest student. All are decoded one word at
a time, compiled, on one thread.

- `error_reduction_at_latency`: 1 - error of the adaptive system over that of
  the static student, at no higher median latency; the smallest over students.
- `speedup_at_error`: median latency of the student over the system's, at no
  higher error; the smallest over students.
- `dominates_static`: 1 if each student is beaten by one or the other.

Rules are fitted on calibration words; systems and their thresholds are chosen
on validation words: times that are put together from those of the stages say
which systems come to the final, times of these as a whole which are chosen.
What is reported is measured on test words, the chosen systems as a whole.
Errors are means over the seeds of the students, intervals bootstraps over
words. The same by mean latency stands beside it, with no target.

What is not trained yet is trained first (`benchmarks.frontier.train`): under an
hour on two quiet cores, of which each finished part is kept, answers included.
To time all of it again is then a matter of minutes.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import pathlib
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.frontier import claims
from benchmarks.frontier import measure
from benchmarks.frontier import pictures
from benchmarks.frontier import systems
from benchmarks.frontier.systems import Outcome
from benchmarks.frontier.systems import System
from benchmarks.frontier.train import PLAN
from benchmarks.frontier.train import add_options
from benchmarks.frontier.train import plan_of
from benchmarks.frontier.train import train
from benchmarks.frontier.train import use_one_thread
from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is missing, measures, and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier")
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "frontier.json"
    )
    add_options(parser)
    parser.add_argument("--words", type=int, default=1000, help="timed")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    use_one_thread()
    splits = load_splits()
    plan = plan_of(options)
    train(splits, options.state, options.seeds, plan)
    stages = measure.load_stages(options.state, options.seeds, plan)
    report = Report("Error over cost on the CMU dictionary, test split")
    report.add_figures(
        {
            "seeds": len(options.seeds),
            "teacher_updates": plan.teacher_training.steps,
            "student_updates": plan.student_training.steps,
        }
    )
    report_frontier(report, stages, splits, options)
    return report.finish(options.json)


def report_frontier(
    report: Report,
    stages: list[dict[str, measure.Stage]],
    splits: dict[str, Entries],
    options: argparse.Namespace,
) -> None:
    """Chooses systems, measures them, and adds and draws what was found.

    Args:
        report: where to.
        stages: by seed, then by name.
        splits: of the dictionary.
        options: of the command.
    """
    answers = {
        name: measure.answer(
            stages, options.state / "answers", name, splits[name]
        )
        for name in ("calibration", "validation", "test")
    }
    rules = measure.fit_rules(answers["calibration"], splits["calibration"])
    programs = [measure.compile_stages(of_seed) for of_seed in stages]
    validation = measure.time_stages(
        stages,
        programs,
        answers["validation"],
        rules,
        splits["validation"],
        options.words,
        options.rounds,
    )
    deferral = systems.Deferral(rules, validation)
    adaptive = systems.candidates(
        PLAN.static,
        (measure.SPRINTER,),
        [name for name in stages[0] if " at " in name],
        measure.LARGE,
    )
    alone = [System(name) for name in stages[0]]
    static = [System(name) for name in PLAN.static]

    def time_as_served(these: Sequence[System], split: str) -> measure.Whole:
        Console().print(f"timing {len(these)} systems on {split} words")
        measure.compile_cascades(these, stages, programs, deferral)
        return measure.time_whole(
            these,
            programs,
            answers[split],
            deferral,
            splits[split],
            options.rounds,
        )

    choices = choose(static, adaptive, deferral, time_as_served)
    by_median, by_mean = claims.COSTS
    chosen = list(
        dict.fromkeys(
            system
            for of_student in choices.values()
            for choice in of_student.values()
            for system in choice
            if system is not None
        )
    )
    whole = time_as_served([*alone, *chosen], "test")
    found = whole.outcomes([*alone, *adaptive], deferral)
    report_systems(report, found, chosen)
    learned = [
        rule.target != "confidence"
        for of_seed in rules
        for rule in of_seed.values()
    ]
    report.add_figures(
        {
            "timed_words": len(validation.places),
            "rule_ms": sum(validation.rule_ms) / len(validation.rule_ms),
            "rules": len(learned),
            "rules_that_beat_confidence": sum(learned),
            "cascade_answers_that_differ": whole.differ,
        }
    )
    baselines = {system.name: found[system] for system in static}
    others = {
        name: found[System(name)]
        for name in (measure.SPRINTER, measure.TEACHER)
    }
    claims.report_bounds(report, list(baselines.values()), *others.values())
    comparisons = {
        cost: {
            name: claims.compare(baselines[name], choice, found, cost)
            for name, choice in of_student.items()
        }
        for cost, of_student in choices.items()
    }
    reduction, speedup = claims.smallest(comparisons[by_mean])
    report.add_figures(
        {
            "error_reduction_at_mean_latency": reduction,
            "speedup_at_error_by_mean_latency": speedup,
        }
    )
    claims.report_claims(report, choices[by_median], comparisons[by_median])
    pictures.draw(
        baselines,
        others,
        {system: found[system] for system in adaptive},
        chosen,
        options.json.with_suffix(".png"),
    )


def choose(
    static: Sequence[System],
    adaptive: Sequence[System],
    deferral: systems.Deferral,
    time_as_served: Callable[[Sequence[System], str], measure.Whole],
) -> dict[str, dict[str, claims.Choice]]:
    """Chooses, on validation words, what is to beat each static student.

    Args:
        static: students.
        adaptive: systems of which some are chosen.
        deferral: rules and thresholds.
        time_as_served: times systems on a split.

    Returns:
        What is compared to the name of a student to what was chosen.
    """
    students, predicted = (
        {
            system: systems.outcome(system, deferral.validation, deferral)
            for system in these
        }
        for these in (static, adaptive)
    )
    finalists = claims.finalists(students, predicted)
    final = time_as_served([*static, *finalists], "validation")
    seen = final.outcomes(finalists, deferral)
    students = final.outcomes(static, deferral)
    return {
        cost: {
            student.name: claims.choose(students[student], seen, cost)
            for student in static
        }
        for cost in claims.COSTS
    }


def report_systems(
    report: Report, found: Mapping[System, Outcome], chosen: Sequence[System]
) -> None:
    """Prints and adds all stages, and the systems that were chosen."""
    table = Table(
        *("system", "median ms", "mean ms", "PER, %", "95 %", "deferred"),
        title="test split",
    )
    alone = [system for system in found if system.large is None]
    for system in dict.fromkeys([*alone, *chosen]):
        outcome = found[system]
        low, high = claims.error_interval(outcome)
        table.add_row(
            system.name,
            f"{outcome.median_ms:.3f}",
            f"{outcome.mean_ms:.3f}",
            f"{100 * outcome.error_rate:.2f}",
            f"{100 * low:.2f} - {100 * high:.2f}",
            f"{outcome.deferred_share:.0%}" if system.large else "",
        )
        report.add_figures(
            {
                system.name: {
                    "median_ms": round(outcome.median_ms, 4),
                    "mean_ms": round(outcome.mean_ms, 4),
                    "phoneme_error_rate": round(outcome.error_rate, 5),
                    "interval": [round(low, 5), round(high, 5)],
                    "deferred_share": round(outcome.deferred_share, 3),
                }
            }
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
