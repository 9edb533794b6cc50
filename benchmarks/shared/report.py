"""What a benchmark prints and writes: claims, and the machine they hold on."""

import datetime
import json
import math
import operator
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from keras_moe.atomic_file import atomic_file

# Folder of the last full run of each benchmark.
RESULTS = pathlib.Path("benchmarks/results")
_RELATIONS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}


class Claim(NamedTuple):
    """A figure with its target.

    Attributes:
        name: as the documentation calls it; ends in the unit.
        value: what was measured.
        target: what was promised.
        relation: how the value is to stand to the target, such as `"<="`.
    """

    name: str
    value: float
    target: float
    relation: str

    @property
    def holds(self) -> bool:
        """Whether the value is as promised."""
        if self.relation not in _RELATIONS:
            raise ValueError(
                f"`relation` must be one of {sorted(_RELATIONS)}. "
                f"Received: relation={self.relation!r}"
            )
        return bool(_RELATIONS[self.relation](self.value, self.target))


class Report:
    """Claims of one benchmark, with other figures beside them.

    Args:
        title: heading of the table.
    """

    def __init__(self, title: str):
        self.title = title
        self.claims: list[Claim] = []
        self.figures: dict[str, Any] = {}

    def add_claim(
        self, name: str, value: float, target: float, relation: str
    ) -> Claim:
        """Adds a figure that has a target."""
        claim = Claim(name, value, target, relation)
        self.claims.append(claim)
        return claim

    def add_figures(self, figures: Mapping[str, Any]) -> None:
        """Adds figures that promise nothing."""
        self.figures.update(figures)

    def include(self, path: str | os.PathLike) -> None:
        """Adds the claims and figures of a report that `write` wrote.

        Args:
            path: the file. What is no number there is NaN here.
        """
        document = json.loads(pathlib.Path(path).read_text())
        for claim in document["claims"]:
            value = math.nan if claim["value"] is None else claim["value"]
            self.add_claim(
                claim["name"], value, claim["target"], claim["relation"]
            )
        self.add_figures(
            {
                name: math.nan if value is None else value
                for name, value in document["figures"].items()
            }
        )

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return all(claim.holds for claim in self.claims)

    def finish(self, path: str | os.PathLike | None) -> int:
        """Shows the report, writes it, and says how the program ends.

        Args:
            path: the file to write; `None` for none.

        Returns:
            The exit status: 1 if a claim does not hold.
        """
        self.show()
        if path is not None:
            self.write(path)
        return 0 if self.holds else 1

    def show(self) -> None:
        """Prints the figures and claims as a table."""
        table = Table("figure", "value", "target", "holds", title=self.title)
        for name, value in self.figures.items():
            table.add_row(name, _text(value), "", "")
        for claim in self.claims:
            table.add_row(
                claim.name,
                _text(claim.value),
                f"{claim.relation} {_text(claim.target)}",
                "yes" if claim.holds else "NO",
            )
        Console().print(table)

    def write(self, path: str | os.PathLike) -> None:
        """Writes the report as JSON; the file appears complete or not at all.

        A value that is not a number is written as `null`: JSON has no word
        for it.
        """
        document = {
            "title": self.title,
            "machine": machine(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(
                "T", "seconds"
            ),
            "claims": [
                {
                    **claim._asdict(),
                    "value": _finite(claim.value),
                    "holds": claim.holds,
                }
                for claim in self.claims
            ],
            "figures": {k: _finite(v) for k, v in self.figures.items()},
        }
        target = pathlib.Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as partial:
            partial.write_text(json.dumps(document, indent=2) + "\n")


def machine() -> str:
    """Describes this machine: processor, cores, memory, system."""
    return ", ".join(
        (
            _processor(),
            f"{len(os.sched_getaffinity(0))} cores",
            f"{_memory_gib():.0f} GiB",
            f"{platform.system()} {platform.machine()}",
            f"Python {platform.python_version()}",
        )
    )


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":") for line in lines)
    found = [value.strip() for key, _, value in names if "model name" in key]
    return found[0] if found else platform.processor() or "unknown processor"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} entries"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
