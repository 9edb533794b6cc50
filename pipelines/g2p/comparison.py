"""Teacher, student and what is certified, side by side as they are served."""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from rich.table import Table

from keras_moe.metrics import symbol_error_rate
from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import PHONEMES

Entries = list[tuple[str, tuple[str, ...]]]

_BATCH = 256
_TIMED_WORDS = 100
_TURNS = 3


class Model(NamedTuple):
    """A model that is compared.

    Attributes:
        path: Of the SavedModel.
        layers: Of its decoder; of a cascade, of the first.
        signature: That is asked.
        deferred_layers: Of the decoder that rows are deferred to.
    """

    path: pathlib.Path
    layers: int
    signature: str = "serving_default"
    deferred_layers: int = 0


@dataclasses.dataclass(frozen=True)
class Served:
    """The cost of a served model, and its errors.

    Attributes:
        name: The model.
        phoneme_error_rate: On the words asked.
        parameters: That its signature reads.
        milliseconds: Median of a request of one word, in this process.
        mean_depth: Decoder layers that a token took, on average.
    """

    name: str
    phoneme_error_rate: float
    parameters: int
    milliseconds: float
    mean_depth: float


def compare(models: Mapping[str, Model], entries: Entries) -> list[Served]:
    """Asks each model all words.

    Args:
        models: By the names that the table has.
        entries: Words and their pronunciations.
    """
    # What is compiled is the signature of a model that is here already.
    loaded = {
        path: tf.saved_model.load(str(path))
        for path in {model.path for model in models.values()}
    }
    signatures = {
        name: loaded[model.path].signatures[model.signature]
        for name, model in models.items()
    }
    times = _milliseconds(
        signatures, [word for word, _ in entries[:_TIMED_WORDS]]
    )
    served = []
    for name, signature in signatures.items():
        rate, depth = _answer(signature, entries, models[name])
        parameters = sum(
            int(np.prod(variable.shape)) for variable in signature.variables
        )
        served.append(Served(name, rate, parameters, times[name], depth))
    return served


def as_table(served: list[Served]) -> Table:
    """Returns the table that the demo prints."""
    table = Table(title="As they are served")
    for column in ("model", "phoneme error", "parameters", "latency", "depth"):
        table.add_column(
            column, justify="left" if column == "model" else "right"
        )
    for row in served:
        table.add_row(
            row.name,
            f"{row.phoneme_error_rate:.2%}",
            f"{row.parameters:,}",
            f"{row.milliseconds:.1f} ms",
            f"{row.mean_depth:.2f}",
        )
    return table


def _answer(
    signature: Any, entries: Entries, model: Model
) -> tuple[float, float]:
    """Returns the error rate and the mean depth."""
    said, depth, tokens = [], 0, 0
    for start in range(0, len(entries), _BATCH):
        words = [word for word, _ in entries[start : start + _BATCH]]
        answer = signature(word=tf.constant(words))
        said += [p.decode().split() for p in answer[PHONEMES].numpy()]
        emitted = (answer["token_ids"].numpy() != text.PAD_ID).sum(axis=1)
        tokens += int(emitted.sum())
        if "exit_layer" in answer:
            depth += int(answer["exit_layer"].numpy().sum())
            continue
        # A model without exits runs all of its layers for each token.
        layers = np.full(len(words), model.layers)
        if "stage" in answer:
            layers += model.deferred_layers * answer["stage"].numpy()
        depth += int((layers * emitted).sum())
    listed = [[p.split() for p in variants] for _, variants in entries]
    return symbol_error_rate(said, listed), depth / max(tokens, 1)


def _milliseconds(
    signatures: Mapping[str, Any], words: list[str]
) -> dict[str, float]:
    """Times one word at a time, the models in turns: noise hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in signatures}
    requests = [tf.constant([word]) for word in words]
    for turn in range(1 + _TURNS):
        for name, signature in signatures.items():
            for request in requests:
                began = time.perf_counter()
                signature(word=request)["token_ids"].numpy()
                if turn:  # the first warms up
                    seconds[name].append(time.perf_counter() - began)
    return {
        name: 1000 * statistics.median(each) for name, each in seconds.items()
    }
