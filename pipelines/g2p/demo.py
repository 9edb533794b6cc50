"""The whole way, from the CMU dictionary to served answers.

    python -m pipelines.g2p.demo

Prepares the data, runs the pipeline, serves what was pushed on the loopback
interface, asks for words that were not in training, and writes
`report.json`. A second run takes everything from the cache.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_moe.atomic_file import atomic_file
from keras_moe.orchestration import Outcome
from keras_moe.orchestration import demo_command
from keras_moe.orchestration import hash_position
from keras_moe.orchestration import read_records
from keras_moe.orchestration import require_pushed
from keras_moe.orchestration import served
from pipelines.g2p.configs import COMMAND_LINE
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.local_runner import RUNNER
from pipelines.g2p.modules.presets import PRESETS
from pipelines.g2p.phonemes import VARIANT_SEPARATOR

if TYPE_CHECKING:
    from pipelines.g2p.comparison import Entries
    from pipelines.g2p.comparison import Served

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
    outcome = RUNNER.run(config, console)
    require_pushed(outcome, console)
    entries = [
        (word, tuple(listed.split(VARIANT_SEPARATOR)))
        for example in read_records(outcome.prepared.records("test"))
        for word, listed in [(example["word"][0], example["pronunciations"][0])]
    ]
    answers = ask(config, entries)
    rows = _compare(config, outcome, entries)
    # Of a cascade the one, of a student with exits the other.
    depths = ("mean_exit_layer", "deferral_share")
    minutes = (time.time() - began) / 60
    report = {
        "phoneme_error_rate": outcome.metrics["phoneme_error_rate"],
        "word_error_rate": outcome.metrics["word_error_rate"],
        "word_error_rate_strict": outcome.metrics["word_error_rate_strict"],
        **{k: outcome.metrics[k] for k in depths if k in outcome.metrics},
        "minutes": round(minutes, 2),
        "version": int(outcome.pushed.name) if outcome.pushed else None,
        "models": [dataclasses.asdict(row) for row in rows],
        "served": [dataclasses.asdict(answer) for answer in answers],
    }
    with atomic_file(config.output / _REPORT) as partial:
        partial.write_text(json.dumps(report, indent=2) + "\n")
    _show(answers, rows, outcome, minutes, console)
    return report


def _compare(
    config: PipelineConfig, outcome: Outcome, entries: Entries
) -> list[Served]:
    """Puts teacher, student and what is certified side by side."""
    from pipelines.g2p.comparison import Model
    from pipelines.g2p.comparison import compare

    preset = PRESETS[config.teacher.preset]
    layers = preset["num_decoder_layers"]
    depth = config.student.num_decoder_layers
    names, calibrator = ("early-exit student", "compiled student"), "Exit"
    if config.cascade.enabled:
        names, calibrator = ("cascade", "compiled cascade"), "Cascade"
    path = outcome.saved_model(f"{calibrator}Calibrator", "model")
    certified = Model(path, depth, deferred_layers=layers)
    models = {
        "teacher": Model(outcome.saved_model("Trainer", "model"), layers),
        "student": Model(outcome.saved_model("Distiller", "student"), depth),
        names[0]: certified,
    }
    if config.serving.batch_sizes:
        models[names[1]] = certified._replace(signature="compiled")
    return compare(models, entries)


def ask(config: PipelineConfig, entries: Entries) -> list[Answer]:
    """Serves the pushed model and asks it for words of the test split.

    Each word goes over gRPC and over REST, and both must agree.

    Args:
        config: The configuration whose model was pushed.
        entries: The words to choose from, with their pronunciations.
    """
    # Ordered by a hash: the words neither change nor all begin with "a".
    ordered = sorted(entries, key=lambda e: hash_position(e[0], salt="shown:"))
    chosen = dict(ordered[:_NUM_WORDS])
    request = {"word": list(chosen)}
    with served(config, config.loading_seconds) as (_, client):
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
    answers: list[Answer],
    rows: list[Served],
    outcome: Outcome,
    minutes: float,
    console: Console,
) -> None:
    from pipelines.g2p.comparison import as_table

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
    console.print(as_table(rows))
    metrics = outcome.metrics
    console.print(
        f"Phoneme error rate {metrics['phoneme_error_rate']:.2%} (against the "
        "nearest listed pronunciation)\n"
        f"Word error rate    {metrics['word_error_rate']:.2%} (any listed "
        "pronunciation is right), strict "
        f"{metrics['word_error_rate_strict']:.2%} (the first listed alone)\n"
        f"{minutes:.1f} minutes since the start"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the demo as the flags say; returns the exit code."""
    prog = "python -m pipelines.g2p.demo"
    return demo_command(run_demo, COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
