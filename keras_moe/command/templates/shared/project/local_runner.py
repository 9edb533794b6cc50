"""Runs the pipeline on this machine: `make run`."""

import sys

from rich.console import Console

from keras_moe.orchestration import LocalRunner
from keras_moe.orchestration import Span

from .configs import COMMAND_LINE
from .configs import ProjectConfig
from .configs import prepare


def prepare_and_tell(config: ProjectConfig, console: Console) -> Span:
    """Writes the pairs as examples, and says how many each split has."""
    span = prepare(config)
    console.print(f"{span} pairs")
    return span


RUNNER = LocalRunner("$project.pipeline.create_pipeline", prepare_and_tell)

if __name__ == "__main__":
    prog = "python -m $project.local_runner"
    sys.exit(RUNNER.main(COMMAND_LINE, prog, __doc__))
