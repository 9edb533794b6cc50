"""Where a training stands."""

from collections.abc import Collection
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple


class Position(NamedTuple):
    """Where a training stands in its data, as a checkpoint holds it.

    Attributes:
        epoch: counted from 0.
        batch: of that epoch, the next one to train on.
        step: updates made so far.
        skipped: pairs (epoch, batch) that were left out, as they gave numbers
            that are not finite.

    Example:

    >>> position = keras_moe.training.Position(epoch=1, batch=20, step=119)
    >>> position.advanced(num_batches=4, updates=2)
    Position(epoch=1, batch=24, step=121, skipped=())
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: tuple[tuple[int, int], ...] = ()

    def advanced(self, num_batches: int, updates: int) -> "Position":
        """Returns the position after as many batches and updates."""
        return self._replace(
            batch=self.batch + num_batches, step=self.step + updates
        )

    def with_skipped(self, skipped: Collection[tuple[int, int]]) -> "Position":
        """Returns the position with more batches left out."""
        return self._replace(skipped=tuple(sorted({*self.skipped, *skipped})))

    def batches_to_take(
        self,
        total: int | None,
        most: int,
        suspect: tuple[int, int] | None = None,
    ) -> int:
        """Returns how many batches to train on in one go.

        No further than to the epoch's end, to a batch that is left out, or to
        one that is suspected.

        Args:
            total: batches of the epoch; `None` if it is not known.
            most: the most batches that may be taken.
            suspect: epoch and batch of what spoilt the training.
        """
        stops = [*self.skipped, *([suspect] if suspect else ())]
        ends = [batch for epoch, batch in stops if epoch == self.epoch]
        if total is not None:
            ends.append(total)
        return min(
            [most, *(end - self.batch for end in ends if end > self.batch)]
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Position":
        """Makes a position of plain values, as JSON gives them.

        Args:
            fields: name to value.

        Raises:
            ValueError: if they are not those of a position.
        """
        try:
            position = cls(**fields)
            skipped = tuple(
                (int(epoch), int(batch)) for epoch, batch in position.skipped
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                "A position must hold the integers epoch, batch and step, and "
                f"pairs under skipped. Received: {fields!r}."
            ) from error
        position = position._replace(skipped=skipped)
        for count in (position[:3], *skipped):
            if not all(type(n) is int and n >= 0 for n in count):
                raise ValueError(
                    "A position's numbers must be integers that are not "
                    f"negative. Received: {fields!r}."
                )
        return position
