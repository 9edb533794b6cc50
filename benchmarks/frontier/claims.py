"""Which system is chosen against which student, and what comes of it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.frontier.systems import Outcome
from benchmarks.frontier.systems import System
from benchmarks.shared.report import Report

# By what latency is compared: an attribute of `Outcome`.
COSTS = ("median_ms", "mean_ms")
# What is chosen on validation words must do by so much better there than the
# student, so that it does as well on others.
_MARGIN = 0.98
# Families of systems that come to the final against each student.
_FAMILIES = 2
_TARGET_REDUCTION, _TARGET_SPEEDUP = 0.10, 1.5
_REDRAWS = 1000
_INTERVAL = (2.5, 97.5)


class Choice(NamedTuple):
    """The systems that are to beat one student.

    Attributes:
        accurate: errs least at no higher latency; `None` if there is none so
            fast.
        fast: has the lowest latency at no higher error; likewise.
    """

    accurate: System | None
    fast: System | None


class Comparison(NamedTuple):
    """A student and those systems, on test words.

    Attributes:
        error_reduction: 1 - error of `accurate` over the student's; 0 where
            it is slower after all.
        interval: 95 % bootstrap interval of it.
        speedup: latency of the student over that of `fast`; 0 where it errs
            more after all.
    """

    error_reduction: float
    interval: tuple[float, float]
    speedup: float

    @property
    def beaten(self) -> bool:
        """Whether the student has nothing for it."""
        return (
            self.error_reduction >= _TARGET_REDUCTION
            or self.speedup >= _TARGET_SPEEDUP
        )


def finalists(
    students: Mapping[System, Outcome], systems: Mapping[System, Outcome]
) -> list[System]:
    """Returns the systems that are worth timing as a whole.

    A median that is put together from stages may be far from the whole's: the
    best of several families, which differ in it, come to the final against
    each student.

    Args:
        students: static.
        systems: that adapt, by times put together.
    """
    found: dict[System, None] = {}
    for cost in COSTS:
        for student in students.values():
            for goal in Choice._fields:
                left = dict(systems)
                for _ in range(_FAMILIES):
                    winner = getattr(choose(student, left, cost), goal)
                    if winner is None:
                        break
                    found[winner] = None
                    left = {
                        system: each
                        for system, each in left.items()
                        if system.family != winner.family
                    }
    return list(found)


def choose(
    student: Outcome, systems: Mapping[System, Outcome], cost: str
) -> Choice:
    """Chooses on validation words.

    Args:
        student: static.
        systems: that adapt.
        cost: one of `COSTS`.
    """
    costs = {system: getattr(f, cost) for system, f in systems.items()}
    errors = {system: f.error_rate for system, f in systems.items()}
    limit = _MARGIN * getattr(student, cost)
    # The median of a cascade leaps where its share comes near a half: it must
    # be low for other words, too.
    in_time = [
        system
        for system, found in systems.items()
        if cost_bound(found, cost) <= limit
    ]
    as_good = [
        system
        for system in systems
        if errors[system] <= _MARGIN * student.error_rate
    ]
    return Choice(
        min(in_time, key=errors.__getitem__, default=None),
        min(as_good, key=costs.__getitem__, default=None),
    )


def compare(
    student: Outcome,
    choice: Choice,
    systems: Mapping[System, Outcome],
    cost: str,
) -> Comparison:
    """Compares on test words.

    Args:
        student: static.
        choice: what was chosen against it.
        systems: those, measured.
        cost: one of `COSTS`.
    """
    reduction, interval, speedup = 0.0, (0.0, 0.0), 0.0
    budget = getattr(student, cost)
    if choice.accurate is not None:
        found = systems[choice.accurate]
        if getattr(found, cost) <= budget:
            reduction = 1.0 - found.error_rate / student.error_rate
            interval = _interval(1.0 - redrawn(found) / redrawn(student))
    if choice.fast is not None:
        found = systems[choice.fast]
        if found.error_rate <= student.error_rate:
            speedup = budget / getattr(found, cost)
    return Comparison(reduction, interval, speedup)


def cost_bound(found: Outcome, cost: str, seed: int = 0) -> float:
    """Returns the upper end of the 95 % bootstrap interval of a cost.

    Args:
        found: what a system does.
        cost: one of `COSTS`.
        seed: of the redraws of the timed words.
    """
    number = found.ms.shape[1]
    rows = np.random.default_rng(seed).integers(0, number, [_REDRAWS, number])
    of_words = np.median if cost == "median_ms" else np.mean
    costs = of_words(found.ms[:, rows], axis=-1).mean(axis=0)
    return float(np.percentile(costs, _INTERVAL[1]))


def redrawn(found: Outcome, seed: int = 0) -> np.ndarray:
    """Returns error rates on redraws of the words, `[redraws]`.

    All systems have the same redraws: differences are of one draw of words.
    """
    draw = np.random.default_rng(seed)
    number = found.edits.shape[1]
    rates = np.empty(_REDRAWS)
    for redraw in range(_REDRAWS):
        rows = draw.integers(0, number, number)
        counts = np.bincount(rows, minlength=number)
        rates[redraw] = np.mean(
            (found.edits @ counts) / (found.lengths @ counts)
        )
    return rates


def error_interval(found: Outcome) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of an error rate, over words."""
    return _interval(redrawn(found))


def report_claims(
    report: Report,
    choices: Mapping[str, Choice],
    comparisons: Mapping[str, Comparison],
) -> None:
    """Adds what each student is beaten by, and the claims.

    Args:
        report: where to.
        choices: name of a student to what was chosen against it.
        comparisons: the same to what came of it.
    """
    for name, found in comparisons.items():
        low, high = found.interval
        key = name.replace(" ", "_")
        for what, system in choices[name]._asdict().items():
            report.add_figures(
                {f"{key}_{what}": "none" if system is None else system.name}
            )
        report.add_figures(
            {
                f"{key}_error_reduction": found.error_reduction,
                f"{key}_error_reduction_low": low,
                f"{key}_error_reduction_high": high,
                f"{key}_speedup": found.speedup,
            }
        )
    reduction, speedup = smallest(comparisons)
    report.add_claim(
        "error_reduction_at_latency", reduction, _TARGET_REDUCTION, ">="
    )
    report.add_claim("speedup_at_error", speedup, _TARGET_SPEEDUP, ">=")
    beaten = all(found.beaten for found in comparisons.values())
    report.add_claim("dominates_static", int(beaten), 1, "==")


def smallest(comparisons: Mapping[str, Comparison]) -> tuple[float, float]:
    """Returns the smallest error reduction and speed-up over students."""
    every = comparisons.values()
    return (
        min(found.error_reduction for found in every),
        min(found.speedup for found in every),
    )


def report_bounds(
    report: Report,
    students: Sequence[Outcome],
    first: Outcome,
    teacher: Outcome,
) -> None:
    """Adds what no cascade of these stages could much exceed.

    A cascade that defers what its small stage gets wrong errs about as much as
    its large stage, and is at best as fast as its small one.

    Args:
        report: where to.
        students: static.
        first: the fastest stage.
        teacher: the strongest stage.
    """
    best = min(student.error_rate for student in students)
    fastest = min(student.median_ms for student in students)
    report.add_figures(
        {
            "teacher_error_reduction": 1.0 - teacher.error_rate / best,
            "sprinter_speedup": fastest / first.median_ms,
        }
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, _INTERVAL)
    return float(low), float(high)
