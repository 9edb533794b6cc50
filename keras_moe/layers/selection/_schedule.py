"""When features are picked, and how many."""

import numpy as np

from keras_moe.validation import check_rate
from keras_moe.validation import check_size


class Schedule:
    """A warm-up, then a phase for each pick, each of several runs.

    A run ends after so many updates. The last ends one before `total_steps`,
    so that the last batch of a training sees all that is picked.

    Args:
        num_features: number of features that are picked.
        num_per_step: how many at the end of each phase.
        total_steps: number of training steps.
        warmup_fraction: share of them before the first phase.
        num_runs: number of runs of each phase.

    Attributes:
        warmup: number of steps before the first phase.
        run_ends: int32 `[phases * num_runs]`, updates before the end of each.

    Raises:
        ValueError: if an argument is out of its range, or a run would have no
            step.
    """

    def __init__(
        self,
        num_features: int,
        num_per_step: int,
        total_steps: int,
        warmup_fraction: float,
        num_runs: int,
    ):
        check_size(
            num_features=num_features,
            num_per_step=num_per_step,
            total_steps=total_steps,
            num_runs=num_runs,
        )
        check_rate(warmup_fraction=warmup_fraction)
        if num_per_step > num_features:
            raise ValueError(
                "`num_per_step` must be at most num_features. Received: "
                f"num_per_step={num_per_step}, num_features={num_features}."
            )
        phases = -(-num_features // num_per_step)
        runs = phases * num_runs
        self.warmup = int(warmup_fraction * total_steps)
        last = total_steps - 1
        if last - self.warmup < runs:
            raise ValueError(
                f"`total_steps` must leave a step for each of {phases} picks "
                f"of {num_runs} runs, after the warm-up and before the last "
                f"step. Received: total_steps={total_steps}, of which "
                f"{self.warmup} are warm-up."
            )
        ends = np.linspace(self.warmup, last, runs + 1)[1:]
        self.run_ends = np.floor(ends).astype("int32")
