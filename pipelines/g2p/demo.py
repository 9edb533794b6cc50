"""The whole way, from the CMU dictionary to served answers.

    python -m pipelines.g2p.demo

Prepares the data, runs the pipeline, serves what was pushed on the loopback
interface, asks for words that were not in training, and writes
`report.json`. A second run takes everything from the cache.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_moe.orchestration import Outcome
from keras_moe.orchestration import ask_both_ways
from keras_moe.orchestration import demo_command
from keras_moe.orchestration import hash_position
from keras_moe.orchestration import read_records
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
_OUTPUTS = ("phonemes", "status")
# Their names, as `evaluation` has them: importing that would import TFMA.
_METRICS = ("phoneme_error_rate", "word_error_rate", "word_error_rate_strict")
# Of a student with exits, and of a cascade.
_DEPTHS = ("mean_exit_layer", "deferral_share")


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


def show(
    config: PipelineConfig, outcome: Outcome, console: Console
) -> dict[str, Any]:
    """Compares the models of a run, and asks the one that was pushed.

    Args:
        config: The configuration.
        outcome: The run's.
        console: Where results go.

    Returns:
        What `report.json` holds.
    """
    entries = [
        (word, tuple(listed.split(VARIANT_SEPARATOR)))
        for example in read_records(outcome.prepared.records("test"))
        for word, listed in [(example["word"][0], example["pronunciations"][0])]
    ]
    answers = ask(config, entries)
    rows = _compare(config, outcome, entries)
    _print(answers, rows, outcome, console)
    depths = [name for name in _DEPTHS if name in outcome.metrics]
    return {
        **{k: outcome.metrics[k] for k in (*_METRICS, *depths)},
        "models": [dataclasses.asdict(row) for row in rows],
        "served": [dataclasses.asdict(answer) for answer in answers],
    }


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
        found = ask_both_ways(client, request, _OUTPUTS)
    return [
        Answer(
            word,
            phonemes.decode(),
            listed,
            status.decode(),
            phonemes.decode() in listed,
        )
        for (word, listed), phonemes, status in zip(
            chosen.items(), *(found[name] for name in _OUTPUTS), strict=True
        )
    ]


def _print(
    answers: list[Answer],
    rows: list[Served],
    outcome: Outcome,
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
        f"{metrics['word_error_rate_strict']:.2%} (the first listed alone)"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the demo as the flags say; returns the exit code."""
    prog = "python -m pipelines.g2p.demo"
    return demo_command(RUNNER, show, COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
