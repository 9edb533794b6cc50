"""Runs the pipeline on this machine, and asks what it pushed: `make run`."""

import sys

from rich.console import Console

from keras_moe.orchestration import LocalRunner
from keras_moe.orchestration import Outcome
from keras_moe.orchestration import Span
from keras_moe.orchestration import demo_command
from keras_moe.orchestration import read_records
from keras_moe.orchestration import served

from .configs import ANSWER
from .configs import COMMAND_LINE
from .configs import ProjectConfig
from .configs import prepare

SHOWN = 5


def prepare_and_tell(config: ProjectConfig, console: Console) -> Span:
    """Writes the pairs as examples, and says how many each split has."""
    span = prepare(config)
    console.print(f"{span} pairs")
    return span


def show(config: ProjectConfig, outcome: Outcome, console: Console) -> dict:
    """Prints what was measured, and answers to sources of the test split."""
    for name, value in sorted(outcome.metrics.items()):
        console.print(f"  {name:20} {value:.3f}")
    pairs = list(read_records(outcome.prepared.records("test")))[:SHOWN]
    asked = [pair["source"][0] for pair in pairs]
    with served(config, timeout=300) as (_, client):
        answers = client.predict({"source": asked})[ANSWER]
    shown = []
    for pair, answer in zip(pairs, answers.tolist(), strict=True):
        best = answer[0] if isinstance(answer, list) else answer
        row = (pair["source"][0], best.decode(), pair["target"][0])
        console.print(
            "  {} -> {} (right: {})".format(*row), markup=False, soft_wrap=True
        )
        shown.append(row)
    return {"metrics": dict(outcome.metrics), "answers": shown}


RUNNER = LocalRunner("$project.pipeline.create_pipeline", prepare_and_tell)

if __name__ == "__main__":
    prog = "python -m $project.local_runner"
    sys.exit(demo_command(RUNNER, show, COMMAND_LINE, prog, __doc__))
