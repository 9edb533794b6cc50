"""The processes of one training, and how they agree."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

import tensorflow as tf

from keras_moe.training._worker_lost_error import WorkerLostError
from keras_moe.training.checkpoints._position import Position

# Errors of TensorFlow in the other workers when one is gone.
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

    Every method but `watched` is a collective operation: all workers must call
    it, in the same order, or those that do will wait for ever.

    Args:
        strategy: any strategy of `tf.distribute`.

    Attributes:
        index: index of this worker.
        is_chief: whether this worker writes and reports.
        are_many: whether there are other workers.
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
        """Raises `WorkerLostError` where TensorFlow lost another worker.

        Args:
            position: gives where the training stands, for the message.
        """
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
        # Only integers compare exactly: the mean of equal fractions may be
        # rounded.
        mean = self.sum(value) / number
        return self.any(value != mean)
