"""A step whose numbers are not finite."""

import math
from collections.abc import Mapping
from collections.abc import Sequence


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


def first_nonfinite(logs: Sequence[Mapping[str, float]]) -> int | None:
    """Returns the first batch whose running loss is not finite, if any is."""
    for index, values in enumerate(logs):
        if not math.isfinite(values.get("loss", 0.0)):
            return index
    return None
