"""The whole way, from the CMU dictionary to served answers.

    python -m pipelines.demo

Prepares the data, runs the pipeline, serves what was pushed on the loopback
interface, asks for words that were not in training, and writes
`report.json`. A second run takes everything from the cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
from typing import TYPE_CHECKING
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines import command_line
from pipelines import local_runner
from pipelines import quiet  # noqa: F401 (imports TensorFlow, quietly)
from pipelines.configs import MODEL_NAME
from pipelines.configs import PipelineConfig
from pipelines.data.prepare import records_path
from pipelines.data.records import read_records
from pipelines.data.splits import position

if TYPE_CHECKING:
    from pipelines.outcome import Outcome

_NUM_WORDS = 8
_REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model server said about a word.

    Attributes:
        word: The word that was asked for.
        phonemes: The predicted pronunciation.
        listed: The pronunciations in the dictionary.
        status: The server's remark on the word.
        correct: Whether the prediction is a listed pronunciation.
    """

    word: str
    phonemes: str
    listed: tuple[str, ...]
    status: str
    correct: bool


def run_demo(
    config: PipelineConfig, console: Console, began: float
) -> dict[str, Any]:
    """Runs the demo.

    Args:
        config: The configuration.
        console: Where progress and results go.
        began: The time at which the clock started, as `time.time()` has it.

    Returns:
        What `report.json` holds.
    """
    outcome = local_runner.run(config, console)
    local_runner.require_pushed(outcome, console)
    answers = ask(config)
    minutes = (time.time() - began) / 60
    report = {
        "phoneme_error_rate": outcome.metrics["phoneme_error_rate"],
        "word_error_rate": outcome.metrics["word_error_rate"],
        "word_error_rate_strict": outcome.metrics["word_error_rate_strict"],
        "minutes": round(minutes, 2),
        "version": int(outcome.pushed.name) if outcome.pushed else None,
        "served": [dataclasses.asdict(answer) for answer in answers],
    }
    _write_atomically(config.output / _REPORT, report)
    _show(answers, outcome, minutes, console)
    return report


def ask(config: PipelineConfig) -> list[Answer]:
    """Serves the pushed model and asks it for words of the test split.

    Each word goes over gRPC and over REST, and both must agree.

    Args:
        config: The configuration whose model was pushed.
    """
    from keras_moe.serving import Client
    from keras_moe.serving import Server

    entries = read_records(records_path(config.data_dir, "test"))
    # A fixed choice without a pattern: neither the easiest nor all on "a".
    entries.sort(key=lambda entry: position(entry[0], salt="shown:"))
    chosen = dict(entries[:_NUM_WORDS])
    request = {"word": list(chosen)}
    with Server(MODEL_NAME, config.serving_dir) as server:
        server.wait_until_available()
        with Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name=MODEL_NAME,
        ) as client:
            by_grpc = _texts(client.predict(request))
            by_rest = _texts(client.predict_rest(request))
    if by_grpc != by_rest:
        raise RuntimeError(
            "gRPC and REST must give the same answers. "
            f"Received: {by_grpc} and {by_rest}"
        )
    return [
        Answer(word, phonemes, listed, status, phonemes in listed)
        for (word, listed), (phonemes, status) in zip(
            chosen.items(), by_grpc, strict=True
        )
    ]


def _texts(outputs: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns (phonemes, status) of each row."""
    columns = (outputs["phonemes"], outputs["status"])
    return [
        (phonemes.decode(), status.decode())
        for phonemes, status in zip(*columns, strict=True)
    ]


def _show(
    answers: list[Answer], outcome: Outcome, minutes: float, console: Console
) -> None:
    table = Table(title="Words that were not in training, over gRPC and REST")
    for column in ("word", "predicted", "listed", "status"):
        table.add_column(column)
    for answer in answers:
        colour = "green" if answer.correct else "yellow"
        table.add_row(
            answer.word,
            f"[{colour}]{answer.phonemes}[/]",
            "\n".join(answer.listed),
            answer.status,
        )
    console.print(table)
    metrics = outcome.metrics
    console.print(
        f"Phoneme error rate {metrics['phoneme_error_rate']:.2%} (against the "
        "nearest listed pronunciation)\n"
        f"Word error rate    {metrics['word_error_rate']:.2%} (any listed "
        "pronunciation is right), strict "
        f"{metrics['word_error_rate_strict']:.2%} (the first listed alone)\n"
        f"{minutes:.1f} minutes since the start"
    )


def _write_atomically(path: pathlib.Path, report: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> int:
    """Runs the demo as the flags say; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_arguments(parser)
    parser.add_argument(
        "--began",
        type=float,
        default=time.time(),
        help="when the clock started, in seconds since 1970 (default: now)",
    )
    arguments, config = command_line.parse(parser, argv)
    console = Console(stderr=True, highlight=False)
    try:
        run_demo(config, console, arguments.began)
    except Exception as error:
        local_runner.report_failure(error, config, console)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
