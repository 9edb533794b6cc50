"""What a mesh of devices costs, and whether it computes the same.

    python -m benchmarks.sharding [--kills N] [--json FILE]

On logical CPU devices, so nothing here is a speed:

- the losses of 50 steps of a small encoder-decoder on a mesh, against those of
  one device, for each way to route and for attention through random features;
- the exchanges of a layer's forward pass, read from what TensorFlow compiled,
  against the least that tokens must travel: to their experts and back;
- the bytes of weights and of results that each device holds;
- trainings that are killed by SIGKILL and resumed, against one that is not.

About 25 minutes on two cores.
"""

import argparse
import pathlib
import sys
import tempfile
from typing import Any

from benchmarks.sharding.collectives import FOLDER_VARIABLE
from benchmarks.sharding.collectives import TRACING
from benchmarks.sharding.kills import kill_and_resume
from benchmarks.sharding.losses import KINDS
from benchmarks.sharding.program import run
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report

STEPS, EARLY_STEPS = 50, 10
# Devices along "batch", "expert" and "model".
MESHES = {
    "switch": (2, 4, 1),
    "top_2": (1, 8, 1),
    "expert_choice": (2, 4, 1),
    "random_features": (2, 2, 2),
}
TRAFFIC_MESHES = ((1, 2), (1, 4), (1, 8), (2, 4))
EXPERTS = (8, 32, 128)


def main() -> int:
    """Measures, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=22)
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "sharding.json"
    )
    options = parser.parse_args()
    report = Report("Sharding")
    _report_losses(report)
    _report_traffic(report)
    _report_kills(report, options.kills)
    return report.finish(options.json)


def _report_losses(report: Report) -> None:
    early, late = [], []
    for kind in KINDS:
        found = run("benchmarks.sharding.losses", kind, *MESHES[kind], STEPS)
        differences = [
            abs(one - other)
            for one, other in zip(found["one"], found["mesh"], strict=True)
        ]
        early.append(max(differences[:EARLY_STEPS]))
        late.append(differences[-1])
        # A token that rounding sends to another expert makes the two trainings
        # part for good: the step where that happens is a figure, not a failure.
        parted = (i for i, gap in enumerate(differences) if gap > 1e-5)
        report.add_figures(
            {
                f"{kind}_mesh": "x".join(map(str, MESHES[kind])),
                f"{kind}_loss_first": found["one"][0],
                f"{kind}_loss_last": found["one"][-1],
                f"{kind}_max_loss_difference": max(differences),
                f"{kind}_first_parting_step": next(parted, None),
            }
        )
    report.add_claim("max_loss_difference", max(early), 1e-5, "<=")
    report.add_claim("loss_difference_step_50", max(late), 1e-3, "<=")


def _report_traffic(report: Report) -> None:
    figures = []
    for batch, expert in TRAFFIC_MESHES:
        for found in _traffic(batch, expert):
            figures.append(found)
            name = f"b{batch}_e{expert}_experts{found['num_experts']}"
            report.add_figures(
                {
                    f"{name}_{key}": found[key]
                    for key in (
                        "weight_bytes",
                        "activation_bytes",
                        "exchange_bytes",
                        "ideal_exchange_bytes",
                        "other_bytes",
                    )
                }
            )
            if expert == 4:
                fraction = found["weight_bytes"] / found["all_weight_bytes"]
    counts = {found["all_to_all"] for found in figures}
    over = max(f["exchange_bytes"] / f["ideal_exchange_bytes"] for f in figures)
    report.add_claim("all_to_all_per_layer_forward", max(counts), 2, "==")
    report.add_claim("fewest_all_to_all_per_layer", min(counts), 2, "==")
    report.add_claim("exchange_over_ideal", over, 1.1, "<=")
    report.add_claim("expert_bytes_fraction_n4", fraction, 0.25, "==")


def _traffic(batch: int, expert: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return run(
            "benchmarks.sharding.traffic",
            folder,
            batch,
            expert,
            *EXPERTS,
            **TRACING,
            **{FOLDER_VARIABLE: folder},
        )


def _report_kills(report: Report, kills: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_resume(kills, pathlib.Path(folder) / "new")
    resumes = found.pop("kill_resumes")
    unreadable = found.pop("unreadable_checkpoints")
    report.add_figures(found)
    report.add_claim("kill_resumes", resumes, kills, "==")
    report.add_claim("unreadable_checkpoints", unreadable, 0, "==")


if __name__ == "__main__":
    sys.exit(main())
