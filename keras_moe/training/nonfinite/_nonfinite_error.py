"""The error of a training step whose numbers are not finite."""

import math
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from keras_moe.training.nonfinite._all_finite import all_finite


class NonfiniteError(ArithmeticError):
    """A batch gave a loss, or an update of the variables, that is not finite.

    The training loop raises and catches it: users see the warning or the
    `FloatingPointError` that `Recovery` makes of it.

    Args:
        epoch: epoch of the batch.
        batch: the batch in that epoch, from 0.
        in_update: whether the loss was finite, and the update was not.
    """

    def __init__(self, epoch: int, batch: int, in_update: bool = False):
        subject = "The update of the variables" if in_update else "The loss"
        super().__init__(
            f"{subject} is not finite at epoch {epoch}, batch {batch}"
        )
        self.epoch = epoch
        self.batch = batch
        self.in_update = in_update

    @property
    def where(self) -> tuple[int, int]:
        """Epoch and batch."""
        return self.epoch, self.batch


def check_losses(
    logs: Sequence[Mapping[str, float]], epoch: int, first_batch: int
) -> None:
    """Raises `NonfiniteError` for the first batch with a loss not finite.

    Args:
        logs: the logs after each batch. The logged loss is a running mean: all
            after the first bad one are bad, too.
        epoch: epoch of the batches.
        first_batch: the batch in that epoch to which the first of `logs`
            belongs.
    """
    for batch, values in enumerate(logs, first_batch):
        if not math.isfinite(values.get("loss", 0.0)):
            raise NonfiniteError(epoch, batch)


def check_variables(model: keras.Model, epoch: int, batch: int) -> None:
    """Raises `NonfiniteError` if the last update made variables not finite.

    Args:
        model: built.
        epoch: epoch of the last update.
        batch: its last batch in that epoch.
    """
    if not all_finite(model):
        raise NonfiniteError(epoch, batch, in_update=True)
