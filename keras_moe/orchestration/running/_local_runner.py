"""Runs a pipeline on this machine: local orchestrator, SQLite metadata."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any
from typing import Generic
from typing import TypeVar

from rich.console import Console

from keras_moe.orchestration.configuration._command_line import CommandLine
from keras_moe.orchestration.configuration._run_config import RunConfig
from keras_moe.orchestration.running._component_progress import (
    ComponentProgress,
)
from keras_moe.orchestration.running._exit_code import exit_code
from keras_moe.orchestration.running._exit_code import require_pushed
from keras_moe.orchestration.running._find_function import find_function
from keras_moe.orchestration.running._only_runner import only_runner
from keras_moe.orchestration.running._outcome import Outcome
from keras_moe.orchestration.running._outcome import read_outcome
from keras_moe.orchestration.running._silence_frameworks import (
    silence_frameworks,
)
from keras_moe.start_up import garbage_left_alone
from keras_moe.start_up import start_up_messages_left_out

ConfigT = TypeVar("ConfigT", bound=RunConfig)


class LocalRunner(Generic[ConfigT]):
    """Runs a pipeline on this machine, and says what was pushed or why not.

    Components run one after the other, with a line each. What did not change
    comes from the cache. A run that pushed nothing is a failure, and so is a
    second runner on the same metadata.

    Example:
    ```python
    RUNNER = keras_moe.orchestration.LocalRunner(
        "my_project.pipeline.create_pipeline"
    )

    if __name__ == "__main__":
        sys.exit(RUNNER.main(COMMAND_LINE, "python -m my_project.local_runner"))
    ```

    Args:
        create_pipeline: From the configuration to a `tfx.dsl.Pipeline`, as
            `make_pipeline` makes it: the function or, for flags and messages
            that need not wait for TFX, its import path
            `"package.module.function"`.
        prepare: Called first with the configuration and the console, such as
            to write examples. What it returns is the second argument of
            `create_pipeline`, and `Outcome.prepared`. Without it,
            `create_pipeline` has one argument.
        talking: Names of components that write progress of their own.
        pusher: The name of the component that pushes.
        evaluator: The name of the component that evaluates, if there is one.
    """

    def __init__(
        self,
        create_pipeline: str | Callable[..., Any],
        prepare: Callable[[ConfigT, Console], Any] | None = None,
        talking: Collection[str] = ("Trainer", "Distiller"),
        pusher: str = "Pusher",
        evaluator: str = "Evaluator",
    ) -> None:
        self._create_pipeline = create_pipeline
        self._prepare = prepare
        self._talking = talking
        self._pusher = pusher
        self._evaluator = evaluator

    def run(self, config: ConfigT, console: Console | None = None) -> Outcome:
        """Prepares, runs all components, and judges the outcome.

        Args:
            config: The configuration.
            console: Where progress goes; `None` for standard error.

        Returns:
            The outcome; see its `pushed`, or call `require_pushed`.

        Raises:
            AnotherRunnerError: If another process runs on the same metadata.
            ComponentFailedError: If a component fails.
            OSError: If `output` cannot be written.
            ValueError: If no component has the name of the `pusher`.
        """
        if console is None:
            console = Console(stderr=True, highlight=False)
        with only_runner(config.metadata_path):
            return self._run(config, console)

    def main(
        self,
        command_line: CommandLine[ConfigT],
        prog: str,
        description: str | None = None,
        argv: Sequence[str] | None = None,
    ) -> int:
        """Runs the pipeline as the flags say; returns the exit code.

        Args:
            command_line: The pipeline's flags.
            prog: The command, as it is typed.
            description: What it does, for `--help`.
            argv: The flags; `None` for those of the process.
        """
        parser = command_line.parser(prog, description)
        _, config = command_line.parse(parser, argv)
        console = Console(stderr=True, highlight=False)
        return exit_code(
            lambda: require_pushed(self.run(config, console), console),
            config,
            console,
        )

    def _run(self, config: ConfigT, console: Console) -> Outcome:
        prepared = None
        arguments: tuple[Any, ...] = (config,)
        if self._prepare is not None:
            prepared = self._prepare(config, console)
            arguments = (config, prepared)

        # Imported late: until then, the lines above can be read.
        console.print("[dim]Importing TFX[/]")
        with start_up_messages_left_out(), garbage_left_alone():
            from keras_moe.orchestration.running._reporting_runner import (
                ReportingRunner,
            )
            from keras_moe.orchestration.running._reporting_runner import (
                record_reason,
            )

            create_pipeline = find_function(self._create_pipeline)
        silence_frameworks()

        def run_once(progress: ComponentProgress, *uncached: str) -> Outcome:
            runner = ReportingRunner(progress.start, progress.end, uncached)
            runner.run(self._checked(create_pipeline(*arguments)))
            return read_outcome(
                runner.runs, self._pusher, self._evaluator, prepared
            )

        with ComponentProgress(console, self._talking) as progress:
            outcome = run_once(progress)
            if outcome.needs_push:
                # All components came from the cache, and yet another version is
                # served: the configuration had run before, or the pushed
                # version was removed.
                console.print("[dim]Pushing the cached model anew[/]")
                outcome = run_once(progress, self._pusher)
        if outcome.reason:
            record_reason(config.metadata_path, outcome)
        return outcome

    def _checked(self, pipeline: Any) -> Any:
        """Refuses, before hours of training, what could not be judged after."""
        from tfx import v1 as tfx

        if not isinstance(pipeline, tfx.dsl.Pipeline):
            raise ValueError(
                "`create_pipeline` must return a `tfx.dsl.Pipeline`. Received: "
                f"{pipeline!r}"
            )
        names = [component.id for component in pipeline.components]
        if self._pusher not in names:
            raise ValueError(
                "`pusher` must name a component of the pipeline: "
                f"{', '.join(names) or 'it has none'}. Received: "
                f"pusher={self._pusher!r}"
            )
        return pipeline
