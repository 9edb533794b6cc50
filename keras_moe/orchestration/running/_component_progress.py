"""One line for each component, with its time."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

from rich.console import Console
from rich.status import Status

from keras_moe.orchestration.running._component_run import ComponentRun


class ComponentProgress:
    """Shows which component runs and how long each took.

    Example:
    >>> from rich.console import Console
    >>> run = keras_moe.orchestration.ComponentRun("Trainer", False, 3.5, {})
    >>> with keras_moe.orchestration.ComponentProgress(Console()) as progress:
    ...     progress.start("Trainer")
    ...     progress.end(run)
      Trainer ...
      Trainer                3.5 s

    Args:
        console: Where to.
        talking: Names of components that write progress of their own, beside
            which a spinner would garble the line.
    """

    def __init__(
        self,
        console: Console,
        talking: Collection[str] = ("Trainer", "Distiller"),
    ) -> None:
        self._console = console
        self._talking = frozenset(talking)
        self._status: Status | None = None

    def __enter__(self) -> ComponentProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def start(self, name: str) -> None:
        """Shows that a component begins.

        Args:
            name: The component.
        """
        if name in self._talking:
            self._console.print(f"  {name} ...")
        else:
            self._status = self._console.status(name)
            self._status.start()

    def end(self, run: ComponentRun) -> None:
        """Prints a component's line.

        Args:
            run: The component's run.
        """
        self._stop()
        time = "cached" if run.cached else f"{run.seconds:.1f} s"
        self._console.print(f"  {run.name:<18} {time:>8}")

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
