"""A learning rate that comes to its end in time, on any machine."""

import math
import time
from typing import Any

import keras

from keras_moe.training.budget._training_budget import TrainingBudget

# Sums of shares, such as 1,200 times 1/1,200, miss 1 by as much.
_ROUNDING = 1e-9


class BudgetedSchedule(keras.callbacks.Callback):
    """Sets the learning rate by the progress of the training, and ends it.

    The progress is the share of the steps that are made, or of the budget that
    is spent, whichever is greater. An update moves it on by no more than
    1 / `min_steps`: no machine ends earlier, however slow it is, and nothing
    makes the rate jump. A machine that is too slow for the budget thus makes
    `min_steps` updates, on a schedule of that length; one that becomes slow, or
    sleeps for an hour, ends sooner from there on, but smoothly.

    Minutes are those since the first update, which traces and compiles. The
    state is kept with checkpoints (see `keras_moe.training.Trainer`): a resumed
    training has no second budget.

    Args:
        config: how long the training may take.

    Attributes:
        config: as it was given.
        step: updates so far.
        progress: from 0 to 1; never falls.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> schedule = keras_moe.training.BudgetedSchedule(
    ...     keras_moe.training.TrainingBudget(steps=3)
    ... )
    >>> history = model.fit(
    ...     np.ones([8, 2]),
    ...     np.ones([8, 1]),
    ...     batch_size=1,
    ...     callbacks=[schedule],
    ...     verbose=0,
    ... )
    >>> schedule.step
    3
    """

    def __init__(self, config: TrainingBudget) -> None:
        super().__init__()
        self.config = config
        self.step = 0
        self.progress = 0.0
        self._minutes_before = 0.0
        self._began: float | None = None
        self._steps_before = 0

    @property
    def minutes(self) -> float:
        """The minutes spent so far, those before an interruption included."""
        if self._began is None:
            return self._minutes_before
        return self._minutes_before + (time.monotonic() - self._began) / 60

    def learning_rate(self) -> float:
        """Returns the rate of the next update."""
        warmup = self.config.warmup
        if self.progress < warmup:
            rising = max(self.progress, 1 / self.config.steps) / warmup
            return self.config.peak_learning_rate * rising
        falling = (self.progress - warmup) / (1.0 - warmup)
        share = 0.5 * (1.0 + math.cos(math.pi * falling))
        return self.config.peak_learning_rate * share

    def remaining(self) -> tuple[float, float, bool]:
        """Foretells the end, at the pace since the training began or resumed.

        Returns:
            Updates left, minutes left, and whether the budget is too short for
            `min_steps`.
        """
        minutes = self.minutes
        made = self.step - self._steps_before
        pace = (minutes - self._minutes_before) / max(made, 1)
        floor = (1.0 - self.progress) * self.config.min_steps
        left = float(self.config.steps - self.step)
        if not self.config.max_minutes or pace <= 0:
            return left, left * pace, False
        in_time = max(self.config.max_minutes - minutes, 0.0) / pace
        # Half an update is as near as the pace is known.
        too_short = floor > max(in_time, 0.5) and floor < left
        left = max(floor, min(left, in_time))
        return left, left * pace, too_short

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Trains no further what was at its end when it was killed."""
        self._stop_at_the_end()

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        """Sets the rate of this update."""
        self.model.optimizer.learning_rate.assign(self.learning_rate())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the update, and stops when the training is at its end."""
        self.step += 1
        if self._began is None:
            self._start_clock()
        share = self.step / self.config.steps
        if self.config.max_minutes:
            share = max(share, self.minutes / self.config.max_minutes)
        share = min(share, self.progress + 1 / self.config.min_steps)
        self.progress = 1.0 if share > 1.0 - _ROUNDING else share
        self._stop_at_the_end()

    def get_state(self) -> dict[str, Any]:
        """Returns where the schedule is."""
        return {
            "step": self.step,
            "progress": self.progress,
            "minutes": self.minutes,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was called."""
        self.step = state["step"]
        self.progress = state["progress"]
        self._minutes_before = state["minutes"]
        self._steps_before = self.step
        if self._began is not None:
            self._start_clock()

    def _start_clock(self) -> None:
        self._began = time.monotonic()
        self._steps_before = self.step

    def _stop_at_the_end(self) -> None:
        if self.progress >= 1.0:
            self.model.stop_training = True
