"""Where a training stands."""

import json
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

    >>> from keras_moe.distribution.position import Position
    >>> position = Position(epoch=1, batch=20, step=119, skipped=((0, 7),))
    >>> position.to_json()
    '{"epoch": 1, "batch": 20, "step": 119, "skipped": [[0, 7]]}'
    >>> Position.from_json(position.to_json()) == position
    True
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> str:
        """Returns the position as text."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Position":
        """Makes a position of its text.

        Args:
            text: what `to_json` returned.

        Raises:
            ValueError: if it is not a position.
        """
        return cls.from_dict(json.loads(text))

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
