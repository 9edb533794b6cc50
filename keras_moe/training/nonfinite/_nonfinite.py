"""A step whose numbers are not finite."""

import math
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from keras_moe.training.checkpoints._position import Position
from keras_moe.training.nonfinite._all_finite import all_finite


class NonFinite(ArithmeticError):
    """What the training loop raises to itself.

    Attributes:
        epoch: of the batch.
        batch: in the epoch, from 0.
        in_update: whether the loss was finite, and the update was not.
    """

    def __init__(self, epoch: int, batch: int, in_update: bool = False):
        what = "The update of the variables" if in_update else "The loss"
        super().__init__(
            f"{what} is not finite at epoch {epoch}, batch {batch}"
        )
        self.epoch = epoch
        self.batch = batch
        self.in_update = in_update

    @property
    def where(self) -> tuple[int, int]:
        """Epoch and batch."""
        return self.epoch, self.batch

    def without_a_way_back(
        self, cause: str, spoilt: bool
    ) -> FloatingPointError:
        """Returns what to raise where there are no checkpoints.

        Args:
            cause: what was found with the variables as they are now.
            spoilt: whether they are not finite any more.
        """
        message = f"{self}: {cause}"
        if spoilt:
            # By now all layers look guilty.
            message += (
                " The update has spoilt the variables, too: give `checkpoints` "
                "to know which layer was the first."
            )
        return FloatingPointError(message)

    def one_too_many(
        self, cause: str, skipped: Sequence[tuple[int, int]], max_retries: int
    ) -> FloatingPointError:
        """Returns what to raise where enough batches were left out before."""
        return FloatingPointError(
            f"{self}: {cause} No more than `max_retries` batches may be left "
            f"out. Received: max_retries={max_retries}, left out (epoch, "
            f"batch): {list(skipped)}."
        )


def check_variables(model: keras.Model, position: Position) -> None:
    """Raises `NonFinite` if the last update spoilt the variables.

    Args:
        model: built.
        position: where the training stands.
    """
    if not all_finite(model):
        raise NonFinite(position.epoch, position.batch - 1, in_update=True)


def first_nonfinite(logs: Sequence[Mapping[str, float]]) -> int | None:
    """Returns the first batch whose running loss is not finite, if any is."""
    for index, values in enumerate(logs):
        if not math.isfinite(values.get("loss", 0.0)):
            return index
    return None
