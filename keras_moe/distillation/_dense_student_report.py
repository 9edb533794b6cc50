"""What became of each weight of a dense student."""

import dataclasses
import math

import keras


@dataclasses.dataclass(frozen=True)
class DenseStudentReport:
    """Which weights of a student came from its teacher, and how.

    Attributes:
        layers: `"encoder"` and `"decoder"` to the teacher's layer for each of
            the student's, counted from 1; empty for models without numbered
            blocks.
        copied: weights that equal one of the teacher's.
        merged: weights that were made of experts.
        fresh: weights that are as they were.
    """

    layers: dict[str, tuple[int, ...]]
    copied: list[keras.Variable] = dataclasses.field(default_factory=list)
    merged: list[keras.Variable] = dataclasses.field(default_factory=list)
    fresh: list[keras.Variable] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{stack} layers {', '.join(map(str, layers))} of the teacher"
            for stack, layers in self.layers.items()
        ]
        for kind in ("copied", "merged", "fresh"):
            weights = getattr(self, kind)
            size = sum(math.prod(weight.shape) for weight in weights)
            lines.append(f"{kind}: {len(weights)} weights, {size:,} values")
        return "\n".join(lines)
