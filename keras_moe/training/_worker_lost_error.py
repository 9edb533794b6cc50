"""The error of a training that lost a worker."""


class WorkerLostError(RuntimeError):
    """A worker of a multi-worker strategy does not answer any more.

    TensorFlow cannot go on with the other workers: start all processes again,
    and the training resumes from the last checkpoint.

    Attributes:
        epoch: the epoch that was being trained, from 0.
        batch: the batch of that epoch, from 0.

    Example:

    >>> def train(trainer, data):
    ...     try:
    ...         trainer.fit(data, epochs=10)
    ...     except keras_moe.training.WorkerLostError as error:
    ...         print(f"Lost at epoch {error.epoch}.")
    ...         raise SystemExit(75) from error  # let the scheduler restart all
    """

    def __init__(self, message: str, epoch: int = 0, batch: int = 0):
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
