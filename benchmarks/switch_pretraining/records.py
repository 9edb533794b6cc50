"""What a run leaves behind: its learning curve, in one file a run."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Point:
    """One evaluation.

    Attributes:
        step: updates so far.
        seconds: processor time of those updates and of making their batches
            (3 ms of 37), evaluation left out.
        loss: held-out loss, in nats per target.
    """

    step: int
    seconds: float
    loss: float


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        variant: name of the variant.
        seed: its seed.
        parameters: number of weights.
        target: the loss at which it was allowed to stop; `None` for none.
        curve: the evaluations, in order.
    """

    variant: str
    seed: int
    parameters: int
    target: float | None
    curve: tuple[Point, ...]

    @property
    def final(self) -> Point:
        """The last evaluation."""
        return self.curve[-1]

    def first_at(self, target: float) -> Point | None:
        """Returns the first evaluation at or below `target`, if any."""
        return next((p for p in self.curve if p.loss <= target), None)


def path_of(folder: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    """Returns where the record of a run is kept."""
    return folder / f"{variant}_seed_{seed}.json"


def write(folder: pathlib.Path, record: Record) -> None:
    """Keeps a record; its file appears complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, record.variant, record.seed)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    os.replace(partial, path)


def read(folder: pathlib.Path, variant: str, seed: int) -> Record | None:
    """Returns a kept record, or `None`."""
    path = path_of(folder, variant, seed)
    if not path.exists():
        return None
    return from_dict(json.loads(path.read_text()))


def from_dict(document: dict[str, Any]) -> Record:
    """Makes a record of what `dataclasses.asdict` made of one."""
    curve = tuple(Point(**point) for point in document["curve"])
    return Record(**{**document, "curve": curve})


def read_all(
    folder: pathlib.Path, variants: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[Record]]:
    """Returns the records that there are, by variant."""
    found = {
        name: [read(folder, name, seed) for seed in seeds] for name in variants
    }
    return {
        name: [record for record in records if record is not None]
        for name, records in found.items()
    }
