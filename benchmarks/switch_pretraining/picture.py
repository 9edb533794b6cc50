"""The picture: held-out loss against steps, mean and spread over seeds."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from benchmarks.switch_pretraining.records import Record


def plot(
    records: Mapping[str, Sequence[Record]],
    labels: Mapping[str, str],
    target: float,
    path: pathlib.Path,
) -> None:
    """Draws the learning curves.

    A curve ends where the first of its seeds was at the target and stopped.

    Args:
        records: the runs of each variant.
        labels: what to call each variant.
        target: the dense model's final loss, the mean over seeds.
        path: of the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for name, runs in records.items():
        if not runs:
            continue
        shared = min(len(run.curve) for run in runs)
        steps = [point.step for point in runs[0].curve[:shared]]
        losses = np.array(
            [[point.loss for point in run.curve[:shared]] for run in runs]
        )
        (line,) = axes.plot(steps, losses.mean(axis=0), label=labels[name])
        axes.fill_between(
            steps,
            losses.min(axis=0),
            losses.max(axis=0),
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    axes.axhline(target, color="black", linestyle="--", linewidth=1)
    axes.annotate(
        f"dense, final: {target:.3f}",
        (1.0, target),
        xycoords=("axes fraction", "data"),
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize="small",
    )
    axes.set(
        xlabel="updates",
        ylabel="held-out loss, nats per byte",
        title="Span corruption, State of the Union addresses",
    )
    # The axis leaves out the first evaluations, which lie far above the losses
    # that are compared.
    axes.set_ylim(target - 0.05, target + 0.5)
    axes.grid(alpha=0.3)
    axes.legend(title="equal arithmetic for a token")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
