"""A line that tells how far training is."""

import sys
import time

import keras

_SECONDS_BETWEEN_LINES = 20.0


class TrainingProgress(keras.callbacks.Callback):
    """Prints steps, loss and the minutes left.

    On a terminal one line is rewritten; in a log a line appears now and then.

    Args:
        steps: `int`. The number of steps planned.
        max_minutes: `float`. Training ends then in any case; 0 for no limit.
    """

    def __init__(self, steps: int, max_minutes: float = 0.0) -> None:
        super().__init__()
        self._steps = steps
        self._seconds = 60 * max_minutes
        self._rewrites = sys.stderr.isatty()
        self._interval = 0.5 if self._rewrites else _SECONDS_BETWEEN_LINES
        self._began = self._printed = 0.0
        self._step = 0
        self._loss = float("nan")

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._began = self._printed = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Prints, if it is time to."""
        self._loss = (logs or {}).get("loss", self._loss)
        now = time.monotonic()
        if now - self._printed >= self._interval:
            self._printed = now
            self._print(now)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prints the last state."""
        self._print(time.monotonic())
        if self._rewrites:
            sys.stderr.write("\n")

    def _print(self, now: float) -> None:
        # Callbacks may be called once for several steps; the optimizer counts
        # each.
        step = int(self.model.optimizer.iterations)
        spent = now - self._began
        left = spent * (self._steps - step) / max(step, 1)
        if self._seconds:
            left = min(left, self._seconds - spent)
        line = (
            f"    step {step:,} of {self._steps:,}, loss {self._loss:.3f}, "
            f"{max(left, 0) / 60:.1f} min left"
        )
        if self._rewrites:
            sys.stderr.write(f"\r{line}\033[K")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
