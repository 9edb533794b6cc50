"""The position of a training in its data."""

from collections.abc import Collection
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple


class Position(NamedTuple):
    """Where a training stands in its data, as a checkpoint holds it.

    Attributes:
        epoch: counted from 0.
        batch: the next batch of that epoch, counted from 0.
        step: updates made so far.
        skipped: pairs (epoch, batch) of batches that are left out, since they
            gave numbers that are not finite.

    Example:

    >>> position = keras_moe.training.Position(epoch=1, batch=20, step=119)
    >>> position.advanced(num_batches=4, updates=2)
    Position(epoch=1, batch=24, step=121, skipped=())
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: tuple[tuple[int, int], ...] = ()

    @property
    def where(self) -> tuple[int, int]:
        """Epoch and batch."""
        return self.epoch, self.batch

    def advanced(self, num_batches: int, updates: int) -> "Position":
        """Returns the position after batches of the same epoch.

        Args:
            num_batches: how many batches were taken.
            updates: how many updates were made of them.
        """
        return self._replace(
            batch=self.batch + num_batches, step=self.step + updates
        )

    def with_skipped(self, skipped: Collection[tuple[int, int]]) -> "Position":
        """Returns the position with more batches left out.

        Args:
            skipped: pairs (epoch, batch).
        """
        return self._replace(skipped=tuple(sorted({*self.skipped, *skipped})))

    def batches_to_take(
        self,
        total: int | None,
        max_batches: int,
        suspect: tuple[int, int] | None = None,
    ) -> int:
        """Returns how many batches the next call may train on.

        The call must end before a batch that is left out or suspected, and
        with the epoch.

        Args:
            total: batches of the epoch; `None` if it is not known.
            max_batches: the most batches that may be taken.
            suspect: epoch and batch of the batch that gave NaN.
        """
        stops = [*self.skipped, *([suspect] if suspect else ())]
        ends = [batch for epoch, batch in stops if epoch == self.epoch]
        if total is not None:
            ends.append(total)
        distances = [end - self.batch for end in ends if end > self.batch]
        return min([max_batches, *distances])

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Position":
        """Makes a position of plain values, as JSON gives them.

        Args:
            fields: name of an attribute to its value.

        Raises:
            ValueError: if a name or a value is not one of a position.
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
