"""What the processes of one training do together."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_moe.distribution.checkpoints import Checkpoints
from keras_moe.distribution.model_state import read_state
from keras_moe.distribution.position import Position
from keras_moe.distribution.worker_lost_error import WorkerLostError

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
        if resolver is not None and isinstance(
            strategy, tf.distribute.MultiWorkerMirroredStrategy
        ):
            cluster = resolver.cluster_spec().as_dict()
            self.index = resolver.task_id or 0
            self.is_chief = resolver.task_type == "chief" or (
                self.index == 0 and "chief" not in cluster
            )
            self.are_many = sum(map(len, cluster.values())) > 1

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
        own = self.strategy.run(lambda: tf.constant(value, tf.float64))
        # A worker may have several replicas.
        replicas = len(self.strategy.experimental_local_results(own))
        total = self.strategy.reduce("SUM", own, axis=None)
        return float(total) / replicas

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

    def save(
        self,
        checkpoints: Checkpoints,
        model: keras.Model,
        position: Position,
        metrics: dict[str, float],
    ) -> None:
        """Lets the chief save, with all others' parts of metrics."""
        if self.is_chief:
            checkpoints.save(model, position, metrics)
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
        for variable in model.metrics_variables:
            variable.assign(_value(variable))


def _value(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable)
