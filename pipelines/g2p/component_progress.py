"""One line for each component, with its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

if TYPE_CHECKING:
    from pipelines.g2p.outcome import ComponentRun

# Components that write progress of their own: no spinner beside it.
_TALKING = ("Trainer", "Distiller")


class ComponentProgress:
    """Shows which component runs and how long each took.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def __enter__(self) -> ComponentProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def start(self, name: str) -> None:
        """Shows that a component begins."""
        if name in _TALKING:
            self._console.print(f"  {name} ...")
        else:
            self._status = self._console.status(name)
            self._status.start()

    def end(self, run: ComponentRun) -> None:
        """Prints a component's line."""
        self._stop()
        time = "cached" if run.cached else f"{run.seconds:.1f} s"
        self._console.print(f"  {run.name:<18} {time:>8}")

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
