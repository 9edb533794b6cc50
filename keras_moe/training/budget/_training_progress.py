"""A line that tells how far training is."""

import sys
import time

import keras

from keras_moe.training.budget._budgeted_schedule import BudgetedSchedule

_SECONDS_BETWEEN_LINES = 20.0
# The progress from which on the pace is known well enough to speak of it.
_SURE = 0.05


class TrainingProgress(keras.callbacks.Callback):
    """Prints steps, loss and the minutes left.

    On a terminal one line is rewritten; in a log a line appears now and then.

    Args:
        schedule: that of the training; it stands before this callback.

    Example:

    >>> budget = keras_moe.training.TrainingBudget(steps=300)
    >>> schedule = keras_moe.training.BudgetedSchedule(budget)
    >>> progress = keras_moe.training.TrainingProgress(schedule)
    >>> callbacks = [schedule, progress]  # of `fit`, with `verbose=0`
    """

    def __init__(self, schedule: BudgetedSchedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._rewrites = sys.stderr.isatty()
        self._interval = 0.5 if self._rewrites else _SECONDS_BETWEEN_LINES
        self._printed = 0.0
        self._told = False
        self._loss = float("nan")

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the clock, and tells of what was done before a kill."""
        self._printed = time.monotonic()
        if self._schedule.step:
            sys.stderr.write(f"    Resuming at step {self._schedule.step:,}.\n")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Prints, if it is time to."""
        self._loss = (logs or {}).get("loss", self._loss)
        now = time.monotonic()
        if now - self._printed >= self._interval:
            self._printed = now
            self._print()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prints the last state."""
        self._print()
        if self._rewrites:
            sys.stderr.write("\n")

    def _print(self) -> None:
        schedule, config = self._schedule, self._schedule.config
        steps, minutes, too_short = schedule.remaining()
        planned = round(schedule.step + steps)
        total = f"{planned:,}"
        if too_short:
            total = f"at least {planned:,}"
        elif planned > schedule.step and planned < 0.99 * config.steps:
            total = f"about {planned:,}"
        if too_short and not self._told and schedule.progress > _SURE:
            self._told = True
            self._write_line(
                f"    The budget of {config.max_minutes:g} min is too short "
                f"for this machine: training goes on to step {planned:,}, for "
                f"{minutes:.1f} min more (`min_steps` is {config.min_steps:,})."
            )
        line = (
            f"    step {schedule.step:,} of {total}, loss {self._loss:.3f}, "
            f"{minutes:.1f} min left"
        )
        if self._rewrites:
            sys.stderr.write(f"\r{line}\033[K")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _write_line(self, line: str) -> None:
        sys.stderr.write(f"\r{line}\033[K\n" if self._rewrites else f"{line}\n")
