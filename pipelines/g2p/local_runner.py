"""Runs the pipeline on this machine: local orchestrator, SQLite metadata.

    python -m pipelines.g2p.local_runner --output build/g2p --steps 2000

It says what was pushed or why not, and fails when nothing was.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING

import rich.markup
from rich.console import Console

from pipelines.g2p import command_line
from pipelines.g2p import quiet
from pipelines.g2p.component_progress import ComponentProgress
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.data.dictionary import find_cmu_dictionary
from pipelines.g2p.data.prepare import prepare_span
from pipelines.g2p.data.prepare import span_directory
from pipelines.g2p.only_runner import only_runner

if TYPE_CHECKING:
    from pipelines.g2p.outcome import Outcome


# Errors whose message is a sentence; others need their name to be understood.
_SPEAKING = (ImportError, OSError, RuntimeError, ValueError)


class NothingPushedError(RuntimeError):
    """The pipeline ran, and no model is there to be served."""


def run(config: PipelineConfig, console: Console) -> Outcome:
    """Prepares the data, runs all components and judges the outcome.

    Args:
        config: The configuration.
        console: Where progress goes.

    Returns:
        The outcome; check `pushed`.
    """
    with only_runner(config.metadata_path):
        return _run(config, console)


def _run(config: PipelineConfig, console: Console) -> Outcome:
    data = config.data
    span, counts = prepare_span(
        data.dictionary or find_cmu_dictionary(),
        config.data_dir,
        keep_stress=data.keep_stress,
        max_words=data.max_words,
        fractions=data.fractions,
    )
    sizes = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    console.print(f"Span {span}: {sizes} words")

    # Imported late: it takes a while, with the line above to be read.
    console.print("[dim]Importing TFX[/]")
    with quiet.start_up_messages_left_out():
        from pipelines.g2p.outcome import read_outcome
        from pipelines.g2p.pipeline import create_pipeline
        from pipelines.g2p.reporting_runner import ReportingRunner
        from pipelines.g2p.reporting_runner import record_reason
    quiet.silence_frameworks()

    directory = span_directory(config.data_dir, span)
    progress = ComponentProgress(console)
    runner = ReportingRunner(progress.start, progress.end)
    with progress:
        runner.run(create_pipeline(config, span))
        outcome = read_outcome(runner.runs, directory)
        if outcome.needs_push:
            # Back to a configuration that ran before, or its version was
            # removed: all is in the cache, and yet it is not what is served.
            console.print("[dim]Pushing the cached model anew[/]")
            runner = ReportingRunner(progress.start, progress.end, ["Pusher"])
            runner.run(create_pipeline(config, span))
            outcome = read_outcome(runner.runs, directory)
    if outcome.reason:
        record_reason(config.metadata_path, outcome)
    return outcome


def require_pushed(outcome: Outcome, console: Console) -> None:
    """Says what was pushed.

    Raises:
        NothingPushedError: If nothing was; it says why.
    """
    if outcome.pushed is None:
        raise NothingPushedError(f"Nothing was pushed: {outcome.reason}.")
    if outcome.pushed_by_earlier_run:
        console.print(
            f"Nothing changed: version {outcome.pushed.name}, pushed by an "
            f"earlier run, stays in {outcome.pushed.parent}"
        )
    else:
        console.print(
            f"Pushed version {outcome.pushed.name} to {outcome.pushed.parent}"
        )


def report_failure(
    error: Exception, config: PipelineConfig, console: Console
) -> None:
    """Prints one sentence, and keeps the traceback in a file."""
    message = rich.markup.escape(str(error))
    if not isinstance(error, _SPEAKING):
        message = f"{type(error).__name__}: {message}"
    closed = getattr(error, "gate_closed", False)
    if closed:
        message = f"Nothing was pushed: {message.rstrip('.')}."
    console.print(f"[bold red]Stopped.[/] {message}", soft_wrap=True)
    if not (closed or isinstance(error, NothingPushedError)):
        log = config.output / "failure.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)))
        console.print(f"The traceback is in {log}")


def main(argv: list[str] | None = None) -> int:
    """Runs the pipeline as the flags say; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.g2p.local_runner", description=__doc__
    )
    command_line.add_arguments(parser)
    _, config = command_line.parse(parser, argv)
    console = Console(stderr=True, highlight=False)
    try:
        require_pushed(run(config, console), console)
    except Exception as error:
        report_failure(error, config, console)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
