"""Error over cost, of all that was measured."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from benchmarks.frontier.claims import error_interval
from benchmarks.frontier.systems import Outcome
from benchmarks.frontier.systems import System

# Okabe and Ito's palette, which the colour-blind can tell apart.
_STATIC = "#000000"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "ov^DPX"
_PANELS = {"median_ms": "median", "mean_ms": "mean"}


def draw(
    static: Mapping[str, Outcome],
    others: Mapping[str, Outcome],
    systems: Mapping[System, Outcome],
    chosen: Sequence[System],
    path: pathlib.Path,
) -> None:
    """Draws one panel over the median time of a word, one over the mean.

    Args:
        static: the students that are to be beaten, by name.
        others: stages that stand by themselves, by name.
        systems: that adapt. Of each family, if it defers to none but
            `others`, those are drawn that no other of it beats.
        chosen: those that were chosen, which are marked.
        path: a PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, 2, figsize=(11, 5), layout="constrained", sharey=True
    )
    # Cascades into a stage that is drawn as a student would crowd the panel.
    shown = [s for s in systems if s.large is None or s.large in others]
    families = list(dict.fromkeys(system.family for system in shown))
    for axes, (cost, word) in zip(panels, _PANELS.items(), strict=True):
        _draw_alone(axes, static, others, cost)
        for number, family in enumerate(families):
            members = frontier(
                [f for s, f in systems.items() if s.family == family], cost
            )
            axes.plot(
                [getattr(found, cost) for found in members],
                [100 * found.error_rate for found in members],
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=4,
                linewidth=1.2,
                label=family,
            )
        axes.scatter(
            [getattr(systems[system], cost) for system in chosen],
            [100 * systems[system].error_rate for system in chosen],
            s=150,
            facecolors="none",
            edgecolors=_STATIC,
            label="chosen on validation words",
            zorder=5,
        )
        ticks = [0.2, 0.3, 0.5, 1, 2, 3, 5]
        axes.set(xlabel=f"milliseconds a word, {word} (test)", xscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("phoneme error, % (test)")
    panels[1].legend(fontsize=8)
    figure.suptitle(
        "CMU dictionary: one word at a time, compiled, one thread; 95 % "
        "intervals over words"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def frontier(outcomes: Sequence[Outcome], cost: str) -> list[Outcome]:
    """Returns those than which none is both cheaper and better.

    Args:
        outcomes: of one family.
        cost: `"median_ms"` or `"mean_ms"`.
    """
    best: list[Outcome] = []
    for found in sorted(
        outcomes, key=lambda each: (getattr(each, cost), each.error_rate)
    ):
        if not best or found.error_rate < best[-1].error_rate:
            best.append(found)
    return best


def _draw_alone(
    axes: Any,
    static: Mapping[str, Outcome],
    others: Mapping[str, Outcome],
    cost: str,
) -> None:
    for outcomes, style, label in (
        (static, "s-", "static students of 1, 2 and 3 layers"),
        (others, "*", None),
    ):
        rates = [100 * found.error_rate for found in outcomes.values()]
        intervals = [error_interval(found) for found in outcomes.values()]
        axes.errorbar(
            [getattr(found, cost) for found in outcomes.values()],
            rates,
            yerr=[
                [
                    r - 100 * low
                    for r, (low, _) in zip(rates, intervals, strict=True)
                ],
                [
                    100 * high - r
                    for r, (_, high) in zip(rates, intervals, strict=True)
                ],
            ],
            fmt=style,
            color=_STATIC,
            markersize=6,
            capsize=3,
            linewidth=1.2,
            label=label,
        )
    for name, found in others.items():
        axes.annotate(
            name,
            (getattr(found, cost), 100 * found.error_rate),
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=8,
        )
