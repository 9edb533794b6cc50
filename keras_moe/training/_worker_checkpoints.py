"""Checkpoints that all workers of a training save and restore together."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_moe.training._workers import Workers
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._model_state import read_state
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.checkpoints._replica_shares import assign_whole


class WorkerCheckpoints:
    """The checkpoints of a model that all workers of its strategy train.

    Without `checkpoints`, nothing is saved and nothing is found. All workers
    must call `restore` and `save`, in the same order.

    Args:
        model: built before anything is saved or restored.
        workers: the workers of its strategy.
        checkpoints: a `Checkpoints` whose directory all of them see; `None`
            for a training without them.

    Attributes:
        callbacks: those of the training, whose states are kept.
    """

    def __init__(
        self,
        model: keras.Model,
        workers: Workers,
        checkpoints: Checkpoints | None,
    ):
        self.model = model
        self.workers = workers
        self.checkpoints = checkpoints
        self.callbacks: Sequence[keras.callbacks.Callback] = ()

    @property
    def are_kept(self) -> bool:
        """Whether the training has checkpoints."""
        return self.checkpoints is not None

    def are_due(self, step: int, updates: int) -> bool:
        """Says whether the last updates passed or met a multiple of `every`.

        Args:
            step: updates made so far.
            updates: how many of them the last call into TensorFlow made.
        """
        return self.checkpoints is not None and self.checkpoints.are_due(
            step, updates
        )

    def restore(self) -> Position | None:
        """Restores the last checkpoint in all workers.

        Returns:
            Where the training stood; `None` if there is no checkpoint.

        Raises:
            RuntimeError: if the workers do not all find the same one.
        """
        if self.checkpoints is None:
            return None
        # Without waiting for the writer, some workers would find an older one.
        self.wait()
        self.workers.barrier()
        position = self.checkpoints.restore(
            self.model, callbacks=self.callbacks
        )
        step = -1 if position is None else position.step
        if self.workers.differ(step):
            raise RuntimeError(
                "All workers must see the same checkpoints: give them a "
                "directory that all can read. Received: step "
                f"{step} in worker {self.workers.index}, others elsewhere."
            )
        return position

    def save(self, position: Position, logs: dict[str, Any]) -> None:
        """Lets the chief save, with all workers' parts of the metrics.

        Args:
            position: where the training stands.
            logs: name to metric; the numbers among them are kept with it.
        """
        if self.checkpoints is None:
            return
        if self.workers.is_chief:
            numbers = {k: v for k, v in logs.items() if isinstance(v, float)}
            self.checkpoints.save(self.model, position, numbers, self.callbacks)
        else:
            # Reading a summed variable is a collective operation: workers that
            # do not read it, too, leave the chief waiting for ever.
            read_state(self.model)
        if position.batch:
            self._share_metrics()

    def wait(self) -> None:
        """Returns when this worker's checkpoints are on the disk."""
        if self.checkpoints is not None:
            self.checkpoints.wait()

    def _share_metrics(self) -> None:
        """Gives each replica an equal part of what the metrics sum up to.

        Restoring does so, too. Were it left out here, later sums would be
        rounded otherwise than in a training that was interrupted.
        """
        if self.workers.strategy.num_replicas_in_sync == 1:
            return
        variables = self.model.metrics_variables
        assign_whole(self.model, [(v, np.asarray(v)) for v in variables])
