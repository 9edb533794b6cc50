"""What the seconds of the engines come to."""

import statistics
from typing import Any

from benchmarks.inference_vs_peers.cases import Case
from benchmarks.shared.report import Report

_SPEEDUP = 3.0
_OVER = 1.5
_LOGIT_DIFFERENCE = 1e-4

# What the processes of an engine printed, by the threads that they had.
Told = dict[int, list[dict[str, Any]]]


def add_case(report: Report, case: Case, ours: Told, theirs: Told) -> None:
    """Claims how much faster or slower we are, each as it does best."""
    for batch in case.batches:
        mine, peers = (_milliseconds(told, batch) for told in (ours, theirs))
        best, their_best = min(mine.values()), min(peers.values())
        if case.peer == "transformers":
            report.add_claim(
                f"speedup_b{batch}_{case.name}",
                their_best / best,
                _SPEEDUP,
                ">=",
            )
        else:
            report.add_claim(
                f"over_{case.peer}_b{batch}", best / their_best, _OVER, "<="
            )
        for engine, found in (("ours", mine), (case.peer, peers)):
            report.add_figures(
                {
                    f"{engine}_ms_a_token_b{batch}_{case.name}_t{threads}": ms
                    for threads, ms in found.items()
                }
            )
    report.add_figures(
        {
            # To read the weights of a token once takes one core as long.
            f"floor_ms_a_token_b1_{case.name}_t{threads}": 1000
            * min(turn["least_seconds"] for turn in turns)
            for threads, turns in ours.items()
        }
    )


def add_agreement(report: Report, ours: list[Told]) -> None:
    """Claims that all engines compute the same."""
    told = [each for case in ours for turns in case.values() for each in turns]

    def greatest(name: str) -> float:
        return max(max(each[name].values()) for each in told)

    report.add_claim(
        "max_logit_difference",
        greatest("logit_difference"),
        _LOGIT_DIFFERENCE,
        "<=",
    )
    report.add_figures({"max_rows_that_part_at_a_tie": greatest("excused")})


def _milliseconds(told: Told, batch: int) -> dict[int, float]:
    """Returns the median of a token, by threads."""
    return {
        threads: 1000
        * statistics.median(
            s / turn["tokens"]
            for turn in turns
            for s in turn["seconds"][str(batch)]
        )
        for threads, turns in told.items()
    }
