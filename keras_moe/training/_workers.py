"""What the processes of one training do together."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.training._worker_lost_error import WorkerLostError
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._model_state import read_state
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.checkpoints._replica_shares import assign_whole

_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class Workers:
    """The workers of a strategy, of which there may be only one.

    Every method but `watched` must be called by all of them, in one order.

    Args:
        strategy: any strategy.

    Attributes:
        index: of this worker.
        is_chief: whether this is the one that writes and reports.
        are_many: whether there are others.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        resolver = strategy.cluster_resolver
        self.index, self.is_chief, self.are_many = 0, True, False
        self._workers = 1
        if resolver is not None and isinstance(
            strategy, tf.distribute.MultiWorkerMirroredStrategy
        ):
            cluster = resolver.cluster_spec().as_dict()
            self.index = resolver.task_id or 0
            self.is_chief = resolver.task_type == "chief" or (
                self.index == 0 and "chief" not in cluster
            )
            self._workers = sum(map(len, cluster.values()))
            self.are_many = self._workers > 1
        self._sum_over_replicas = tf.function(
            lambda value: strategy.reduce(
                "SUM", strategy.run(tf.identity, (value,)), axis=None
            ),
            autograph=False,
        )

    @contextlib.contextmanager
    def watched(self, position: Callable[[], Position]) -> Iterator[None]:
        """Turns the loss of another worker into an error that says so."""
        try:
            yield
        except _LOST as error:
            if not self.are_many:
                raise
            epoch, batch = position()[:2]
            raise WorkerLostError(
                f"A worker was lost at epoch {epoch}, batch {batch}. Start all "
                "workers again; training resumes from the last checkpoint, if "
                f"`checkpoints` was given. TensorFlow says: {error.message}",
                epoch,
                batch,
            ) from error

    def sum(self, value: float) -> float:
        """Returns the sum of a number over workers."""
        if not self.are_many:
            return value
        total = self._sum_over_replicas(tf.constant(value, tf.float64))
        return float(total) * self._workers / self.strategy.num_replicas_in_sync

    def barrier(self) -> None:
        """Waits for all workers."""
        self.sum(0.0)

    def any(self, flag: bool) -> bool:
        """Returns whether a flag is set in any worker."""
        return self.sum(float(flag)) > 0

    def differ(self, value: float) -> bool:
        """Returns whether a number is not the same in all workers."""
        if not self.are_many:
            return False
        number = self.sum(1.0)
        # A mean of equal numbers may be rounded; integers are not.
        mean = self.sum(value) / number
        return self.any(value != mean)

    def restore(
        self, checkpoints: Checkpoints, model: keras.Model
    ) -> Position | None:
        """Restores the last checkpoint in all workers.

        Returns:
            Where the training stood; `None` if there is no checkpoint.

        Raises:
            RuntimeError: if the workers do not all find the same one.
        """
        # The chief may still be writing it.
        checkpoints.wait()
        self.barrier()
        position = checkpoints.restore(model)
        step = -1 if position is None else position.step
        if self.differ(step):
            raise RuntimeError(
                "All workers must see the same checkpoints: give them a "
                "directory that all can read. Received: step "
                f"{step} in worker {self.index}, others elsewhere."
            )
        return position

    def save(
        self,
        checkpoints: Checkpoints,
        model: keras.Model,
        position: Position,
        logs: dict[str, Any],
    ) -> None:
        """Lets the chief save, with all others' parts of metrics."""
        if self.is_chief:
            numbers = {k: v for k, v in logs.items() if isinstance(v, float)}
            checkpoints.save(model, position, numbers)
        else:
            # The chief reads variables that are summed over workers.
            read_state(model)
        if position.batch:
            self._share_metrics(model)

    def _share_metrics(self, model: keras.Model) -> None:
        """Gives each replica an equal part of what the metrics sum up to.

        As restoring would: so that later sums are rounded alike, whether the
        training is interrupted or not.
        """
        if self.strategy.num_replicas_in_sync == 1:
            return
        variables = model.metrics_variables
        assign_whole(model, [(v, np.asarray(v)) for v in variables])
