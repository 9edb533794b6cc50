"""What is raised when another worker is gone."""


class WorkerLostError(RuntimeError):
    """A worker of a multi-worker strategy does not answer any more.

    TensorFlow cannot go on with those that are left: all processes are started
    again, and the training resumes from the last checkpoint.

    Attributes:
        epoch: the epoch that was being trained, from 0.
        batch: the batch of it, from 0.
    """

    def __init__(self, message: str, epoch: int = 0, batch: int = 0):
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
