"""Runs the pipeline on this machine: local orchestrator, SQLite metadata.

    python -m pipelines.g2p.local_runner --output build/g2p --steps 2000

It says what was pushed or why not, and fails when nothing was.
"""

import sys

from rich.console import Console

from keras_moe.orchestration import LocalRunner
from keras_moe.orchestration import Span
from pipelines.g2p.configs import COMMAND_LINE
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.data.prepare import prepare_words


def prepare(config: PipelineConfig, console: Console) -> Span:
    """Prepares the span of examples that a run uses."""
    span = prepare_words(config.data, config.data_dir)
    console.print(f"{span} words")
    return span


RUNNER = LocalRunner("pipelines.g2p.pipeline.create_pipeline", prepare)


def main(argv: list[str] | None = None) -> int:
    """Runs the pipeline as the flags say; returns the exit code."""
    prog = "python -m pipelines.g2p.local_runner"
    return RUNNER.main(COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
