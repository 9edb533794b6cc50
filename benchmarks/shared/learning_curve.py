"""The learning curve of a training, which checkpoints keep."""

import time
from collections.abc import Callable
from typing import Any

import keras


class LearningCurve(keras.callbacks.Callback):
    """Measures a model after each epoch.

    The points are kept with the checkpoints of `keras_moe.training.Trainer`: a
    training that was killed goes on with them.

    Args:
        measure: returns figures of the model, by name.
        clock: tells the seconds that updates take.

    Attributes:
        points: one an epoch: `step`, the updates so far; `seconds` that they
            took, without the first of each process, which traces; and what
            `measure` returned.
    """

    def __init__(
        self,
        measure: Callable[[], dict[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.points: list[dict[str, float]] = []
        self._measure = measure
        self._clock = clock
        self._seconds = 0.0
        self._began = 0.0
        self._traced = False

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        """Starts the clock."""
        self._began = self._clock()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops the clock."""
        if self._traced:
            self._seconds += self._clock() - self._began
        self._traced = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds a point."""
        step = int(self.model.optimizer.iterations)
        seconds = round(self._seconds, 2)
        self.points.append(
            {"step": step, "seconds": seconds, **self._measure()}
        )

    def get_state(self) -> dict[str, Any]:
        """Returns what checkpoints keep."""
        return {"points": self.points, "seconds": self._seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was called."""
        self.points = state["points"]
        self._seconds = state["seconds"]
