"""One line of the table: a system and its baseline."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """What a system and its baseline came to, on the same data.

    Attributes:
        system: the layer, optimizer or the like.
        measured: what, and in which unit.
        value: of the system.
        baseline: the simple thing that it competes with.
        of_baseline: the same of that.
        more_is_better: whether it is.
    """

    system: str
    measured: str
    value: float
    baseline: str
    of_baseline: float
    more_is_better: bool = False

    @property
    def verdict(self) -> str:
        """Whether the system is better, in words."""
        if self.value == self.of_baseline:
            return "equal"
        if self.more_is_better:
            better = self.value > self.of_baseline
        else:
            better = self.value < self.of_baseline
        return "gain" if better else "no gain"

    def as_record(self) -> dict[str, Any]:
        """Returns what is written as JSON."""
        return {**self._asdict(), "verdict": self.verdict}


def show(rows: Sequence[Row]) -> None:
    """Prints the table."""
    table = Table(
        *("system", "measured", "value", "baseline", "its value", ""),
        title="Systems of the article, and their baselines",
    )
    for row in rows:
        table.add_row(
            row.system,
            row.measured,
            f"{row.value:.4g}",
            row.baseline,
            f"{row.of_baseline:.4g}",
            row.verdict,
        )
    Console(width=120).print(table)
