"""Runs the pipeline on this machine: local orchestrator, SQLite metadata.

    python -m pipelines.search.local_runner --output build/search

It says what was pushed or why not, and fails when nothing was.
"""

import sys

from rich.console import Console

from keras_moe.orchestration import LocalRunner
from keras_moe.orchestration import Span
from pipelines.search.configs import COMMAND_LINE
from pipelines.search.configs import PipelineConfig
from pipelines.search.data.prepare import prepare_synsets


def prepare(config: PipelineConfig, console: Console) -> Span:
    """Prepares the span of examples that a run uses."""
    span = prepare_synsets(config.data, config.data_dir)
    console.print(f"{span} synsets")
    return span


RUNNER = LocalRunner("pipelines.search.pipeline.create_pipeline", prepare)


def main(argv: list[str] | None = None) -> int:
    """Runs the pipeline as the flags say; returns the exit code."""
    prog = "python -m pipelines.search.local_runner"
    return RUNNER.main(COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
