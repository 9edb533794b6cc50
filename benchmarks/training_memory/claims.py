"""What the figures of all processes come to."""

import statistics
from collections.abc import Mapping
from collections.abc import Sequence

from benchmarks.shared.report import Report

READERS = ("stream", "arrays")
TIMES = (1, 10)
_GROWTH = 1.10
# Maps what was run, the reader, and how often the dictionary was repeated, to
# what each process printed.
Figures = Mapping[tuple[str, str, int], Sequence[Mapping[str, float]]]


def add_claims(report: Report, figures: Figures) -> None:
    """Claims how memory grows, with the figures of the arrays beside it.

    Args:
        report: where they go.
        figures: those of all processes; medians count.
    """
    speeds = {"train": "updates_per_second", "read": "examples_per_second"}

    def median(what: str, reader: str, times: int, figure: str) -> float:
        runs = figures[what, reader, times]
        return statistics.median(run[figure] for run in runs)

    for what, speed in speeds.items():
        for reader in READERS:
            for times in TIMES:
                for figure in ("peak_mib", speed):
                    report.add_figures(
                        {
                            f"{what}_{reader}_{times}x_{figure}": median(
                                what, reader, times, figure
                            )
                        }
                    )
    growth = {
        reader: median("train", reader, TIMES[-1], "peak_mib")
        / median("train", reader, TIMES[0], "peak_mib")
        for reader in READERS
    }
    report.add_figures({"train_arrays_peak_growth": growth["arrays"]})
    report.add_claim("train_stream_peak_growth", growth["stream"], _GROWTH, "<")
