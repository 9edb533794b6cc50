"""What became of every weight."""

import dataclasses
import math

import keras


@dataclasses.dataclass(frozen=True)
class UpcyclingReport:
    """Which weights of a sparse model came from the dense one, and how.

    Attributes:
        converted: names of the feed-forward networks that became sparse.
        copied: weights that equal one of the dense model's.
        replicated: weights of experts, of which each expert's part equals one
            of the dense model's (but for noise).
        fresh: weights that the dense model has no value for: routers, and
            zeros where only one of two dense layers had a bias.
    """

    converted: tuple[str, ...]
    copied: tuple[keras.Variable, ...]
    replicated: tuple[keras.Variable, ...]
    fresh: tuple[keras.Variable, ...]

    def __str__(self) -> str:
        lines = [f"upcycled: {', '.join(self.converted)}"]
        for kind in ("copied", "replicated", "fresh"):
            weights = getattr(self, kind)
            size = sum(math.prod(weight.shape) for weight in weights)
            lines.append(f"{kind}: {len(weights)} weights, {size:,} values")
        return "\n".join(lines)
