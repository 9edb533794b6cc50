"""`keras-moe calibrate`: how early tokens may leave, with a certificate."""

import csv
import pathlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Annotated
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_moe import calibration
from keras_moe.calibration import Certificate
from keras_moe.command._answers import AsJson
from keras_moe.command._answers import errors_in_one_line
from keras_moe.command._answers import say
from keras_moe.command._answers import to_json
from keras_moe.command._numbers import to_numbers
from keras_moe.command._targets import check_new
from keras_moe.command._texts import Texts
from keras_moe.command._texts import Tokenizer
from keras_moe.command._texts import texts_of
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import ExitingGenerative
from keras_moe.generation.contracts._check_model import check_model
from keras_moe.validation import check_choice
from keras_moe.weights import fingerprint

_Symbols = Sequence[int]


def _exact(prediction: _Symbols, *references: _Symbols) -> float:
    return float(all(prediction != reference for reference in references))


_DISTANCES: dict[str, Callable[..., float]] = {
    "exact": _exact,
    "edit_distance": calibration.edit_distance_error,
    "rouge_l": calibration.rouge_l_distance,
    "token_f1": calibration.token_f1_distance,
}


class _Rows(NamedTuple):
    sources: list[str]
    targets: list[str] | None


def calibrate(
    model_file: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="MODEL",
            help="A `.keras` file of a model whose exits were trained.",
        ),
    ],
    data: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="DATA.csv",
            help="Texts that had no part in training, in a column `source`; "
            "with a column `target`, the right answers.",
        ),
    ],
    target: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="CERTIFICATE.json",
            help="To be written, for `keras-moe export --certificate`.",
        ),
    ],
    tolerance: Annotated[
        float, typer.Option(help="Greatest expected loss, between 0 and 1.")
    ],
    loss: Annotated[
        str,
        typer.Option(
            help="How far an early answer is from the full model's; with "
            "targets, how much farther from those: exact, edit_distance, "
            "rouge_l or token_f1, of tokens."
        ),
    ] = "exact",
    confidence: Annotated[
        str,
        typer.Option(
            help="What is compared with the threshold: softmax, state, "
            "classifier or entropy."
        ),
    ] = "softmax",
    thresholds: Annotated[
        str, typer.Option(help="To be tested.")
    ] = "1.0,0.95,0.9,0.8,0.7,0.6,0.5",
    min_exit_layer: Annotated[
        int,
        typer.Option("--min_exit_layer", help="The lowest exit."),
    ] = 1,
    exit_interval: Annotated[
        int,
        typer.Option("--exit_interval", help="From one exit to the next."),
    ] = 1,
    confidence_level: Annotated[
        float,
        typer.Option(
            "--confidence_level", help="How sure the tolerance is kept."
        ),
    ] = 0.95,
    max_length: Annotated[
        int,
        typer.Option("--max_length", min=1, help="Most tokens of an answer."),
    ] = 64,
    batch_size: Annotated[
        int,
        typer.Option("--batch_size", min=1, help="Rows decoded at a time."),
    ] = 256,
    tokenizer: Tokenizer = None,
    as_json: AsJson = False,
) -> None:
    """Certify the threshold from which a decoder's tokens may leave early.

    The loss is that of an early answer beside the full model's. Nothing is
    written where no threshold passes.
    """
    with errors_in_one_line("Not calibrated.", as_json) as console:
        check_new("CERTIFICATE.json", target)
        check_choice(_DISTANCES, loss=loss)
        rows = _read(data)
        tested = sorted(to_numbers("--thresholds", thresholds), reverse=True)
        policy = EarlyExitPolicy(
            confidence,
            min_exit_layer=min_exit_layer,
            exit_interval=exit_interval,
        )
        settings: dict[str, Any] = {
            "thresholds": tested,
            "tolerance": tolerance,
            "confidence_level": confidence_level,
            "p_value": "binary" if loss == "exact" else "hoeffding_bentkus",
        }
        model = keras.saving.load_model(model_file, compile=False)
        check_model(ExitingGenerative, model)
        # Decoding takes minutes: what no answers could pass is said before.
        perfect = np.zeros((len(rows.sources), len(tested)))
        calibration.calibrate(perfect, **settings)
        texts = texts_of(model, tokenizer)
        answers = calibration.exit_answers(
            model,
            _ids_of(model, rows.sources, texts),
            policy,
            tested,
            max_length,
            batch_size,
            verbose=0,
        )
        measure = _measure(model, texts, rows, _DISTANCES[loss])
        full = next(answers).token_ids
        losses, layers = [], []
        for early in track(
            answers, total=len(tested), console=console, disable=as_json
        ):
            losses.append(measure(early.token_ids, full))
            layers.append(early.mean_exit_layer())
        certificate = calibration.calibrate(
            np.stack(losses, axis=1),
            **settings,
            policy=calibration.exit_policy(policy, max_length),
            fingerprint=fingerprint(model),
        )
        certificate.save(target)
    _report(certificate, layers, target, as_json)


def _read(path: pathlib.Path) -> _Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            wanted = _wanted(reader.fieldnames or [], path)
            columns: dict[str, list[str]] = {name: [] for name in wanted}
            for row in reader:
                # What the names do not cover lies under no name.
                if None in row:
                    raise ValueError(
                        "`DATA.csv` must have quotes around texts with commas: "
                        "no row may have more fields than the first line. "
                        f"Received: {row[None]} besides, in line "
                        f"{reader.line_num} of {path}."
                    )
                for name in wanted:
                    if not (row[name] or "").strip():
                        raise ValueError(
                            "`DATA.csv` must have a text in each row. "
                            f"Received: none for {name} in line "
                            f"{reader.line_num} of {path}."
                        )
                    columns[name].append(row[name])
        except csv.Error as error:
            raise ValueError(
                f"`DATA.csv` must be CSV. Received: {path}, line "
                f"{reader.line_num}: {error}."
            ) from error
    if not columns["source"]:
        raise ValueError(f"`DATA.csv` must have rows. Received: {path}.")
    return _Rows(columns["source"], columns.get("target"))


def _wanted(names: Sequence[str], path: pathlib.Path) -> list[str]:
    """Returns the columns to be read."""
    if "source" not in names:
        raise ValueError(
            "`DATA.csv` must have a column `source`, named in its first "
            f"line. Received: {path} with {list(names)}."
        )
    if len(set(names)) < len(names):
        raise ValueError(
            "`DATA.csv` must name each column once. Received: "
            f"{list(names)} in line 1 of {path}."
        )
    return [name for name in ("source", "target") if name in names]


def _ids_of(model: Any, words: list[str], texts: Texts) -> np.ndarray:
    try:
        ids = np.asarray(texts.tokenize(words)["encoder_token_ids"])
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            "`DATA.csv` must have token ids of the model, such as '5 6 1', or "
            "texts for the vocabulary of `--tokenizer`. Received: "
            f"{error.message}"
        ) from error
    empty = np.flatnonzero((ids == model.config.pad_id).all(axis=1))
    if empty.size:
        raise ValueError(
            "`DATA.csv` must have a token besides padding in each text. "
            f"Received: {words[empty[0]]!r} in row {empty[0] + 1}."
        )
    return ids


def _measure(
    model: Any, texts: Texts, rows: _Rows, distance: Callable[..., float]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns the loss of early and full answers."""
    framing = (model.config.pad_id, model.config.end_id)

    def symbols(ids: np.ndarray) -> list[_Symbols]:
        return [[i for i in row if i not in framing] for row in ids.tolist()]

    if rows.targets is None:
        return lambda early, full: calibration.textual_consistency(
            symbols(early), symbols(full), distance
        )
    references = [[row] for row in symbols(_ids_of(model, rows.targets, texts))]
    return lambda early, full: calibration.risk_consistency(
        symbols(early), symbols(full), references, distance
    )


def _report(
    certificate: Certificate,
    layers: list[float],
    target: pathlib.Path,
    as_json: bool,
) -> None:
    """Shows each threshold, and which of them is certified.

    As JSON, by the names that `keras-moe plot risk_versus_speed` reads.
    """
    if as_json:
        typer.echo(
            to_json(
                {
                    "certificate": str(target),
                    "certified_threshold": certificate.threshold,
                    "tolerance": certificate.tolerance,
                    "confidence_level": certificate.confidence_level,
                    "n": certificate.n,
                    "thresholds": certificate.thresholds,
                    "risks": certificate.risks,
                    "p_values": certificate.p_values,
                    "speeds": layers,
                }
            )
        )
        return
    table = Table("threshold", "mean loss", "p-value", "mean exit layer", "")
    for threshold, risk, p_value, layer in zip(
        certificate.thresholds,
        certificate.risks,
        certificate.p_values,
        layers,
        strict=True,
    ):
        chosen = threshold == certificate.threshold
        table.add_row(
            *(f"{threshold:g}", f"{risk:.4g}", f"{p_value:.3g}"),
            *(f"{layer:.2f}", "certified" if chosen else ""),
        )
    Console().print(table)
    say(
        f"With a confidence of {certificate.confidence_level:.4g} the expected "
        f"loss at {certificate.threshold:g} is at most "
        f"{certificate.tolerance:g}: {target}"
    )
