"""The certified threshold: what it costs, and what it saves."""

import dataclasses
import functools
import pathlib
import tempfile
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.early_exit import time_decoders
from benchmarks.early_exit.train import EXITS
from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import answered_phonemes
from benchmarks.shared.dictionary import listed_phonemes
from benchmarks.shared.dictionary import word_ids
from benchmarks.shared.report import Report
from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.calibration import calibrate
from keras_moe.calibration import exit_answers
from keras_moe.calibration import exit_policy
from keras_moe.generation import EarlyExitPolicy
from keras_moe.losses import exit_layers
from keras_moe.metrics import nearest_reference
from keras_moe.metrics import sequence_error_rate
from keras_moe.metrics import symbol_error_rate
from keras_moe.models import SwitchTransformer
from keras_moe.weights import fingerprint
from pipelines.g2p.modules import text

TOLERANCE = 0.02
POLICY = EarlyExitPolicy("softmax", **EXITS)
THRESHOLDS = (
    *(0.95, 0.9, 0.85, 0.8, 0.77, 0.74, 0.72, 0.7),
    *(0.68, 0.66, 0.64, 0.62, 0.6, 0.57, 0.54, 0.5),
    *(0.46, 0.42, 0.38, 0.34, 0.3, 0.26, 0.22, 0.18),
)


class Pool(NamedTuple):
    """Losses and depths of the calibration split, by threshold.

    Attributes:
        losses: `[n, m]`, of each word at each threshold.
        depths: `[m]`, mean exit layers.
        certificate: what came of it.
    """

    losses: np.ndarray
    depths: np.ndarray
    certificate: Certificate


def calibrate_on(model: SwitchTransformer, entries: Entries) -> Pool:
    """Certifies a threshold on words that had no part in training."""
    listed = listed_phonemes(entries)
    answers = exit_answers(
        model, word_ids(entries), POLICY, THRESHOLDS, text.MAX_PHONEMES
    )
    full = _word_errors(answered_phonemes(next(answers).token_ids), listed)
    losses, depths = [], []
    for early in answers:
        errors = _word_errors(answered_phonemes(early.token_ids), listed)
        losses.append(np.clip(errors - full, 0.0, 1.0))
        depths.append(early.mean_exit_layer())
    table = np.stack(losses, axis=1)
    certificate = calibrate(
        table,
        THRESHOLDS,
        TOLERANCE,
        policy=exit_policy(POLICY, text.MAX_PHONEMES),
        fingerprint=fingerprint(model),
    )
    return Pool(table, np.array(depths), certificate)


def report_certified(
    report: Report, pool: Pool, variants: dict[str, Any], test: Entries
) -> None:
    """Adds depth, error rates and speed on the test split."""
    model = variants["exits"].model
    layers = model.config.num_decoder_layers
    threshold = pool.certificate.threshold
    policy = dataclasses.replace(POLICY, threshold=threshold)
    decode = functools.partial(
        exit_answers, token_ids=word_ids(test), max_length=text.MAX_PHONEMES
    )
    full, early = decode(model, policy=POLICY, thresholds=[threshold])
    depth = early.mean_exit_layer()
    exits = exit_layers(layers, **EXITS)
    nearest = min(exits, key=lambda layer: abs(layer - depth))
    cut = EarlyExitPolicy("state", min_exit_layer=nearest)
    _, static = decode(model, policy=cut, thresholds=[-1.0])
    (shallow,) = decode(variants["shallow"].model, policy=POLICY, thresholds=[])
    named = {
        "full": full,
        "early": early,
        "static_cut": static,
        "shallow": shallow,
    }
    listed = listed_phonemes(test)
    table = Table("decoder", "layers", "PER, %", "WER, %", title="test split")
    for name, answers in named.items():
        phonemes = answered_phonemes(answers.token_ids)
        rates = {
            "phoneme_error_rate": symbol_error_rate(phonemes, listed),
            "word_error_rate": sequence_error_rate(phonemes, listed),
            "mean_exit_layer": answers.mean_exit_layer(),
        }
        report.add_figures({f"{name}_{k}": v for k, v in rates.items()})
        table.add_row(
            name,
            f"{rates['mean_exit_layer']:.2f}",
            f"{100 * rates['phoneme_error_rate']:.2f}",
            f"{100 * rates['word_error_rate']:.2f}",
        )
    Console().print(table)
    worse = _word_errors(
        answered_phonemes(early.token_ids), listed
    ) - _word_errors(answered_phonemes(full.token_ids), listed)
    report.add_figures(
        {
            "certified_threshold": threshold,
            "calibration_words": pool.certificate.n,
            "test_loss_of_certified": float(np.clip(worse, 0, 1).mean()),
            "exit_layer_shares": _shares(early.exit_layer, layers),
            "calibration_risks": pool.losses.mean(axis=0).tolist(),
            "calibration_depths": pool.depths.tolist(),
            "thresholds": list(THRESHOLDS),
        }
    )
    report.add_claim("mean_exit_fraction", depth / layers, 1 / 3, "<=")
    report.add_claim(
        "full_over_shallow_phoneme_error_rate",
        report.figures["full_phoneme_error_rate"]
        / report.figures["shallow_phoneme_error_rate"],
        1.0,
        "<",
    )
    words = [word for word, _ in test]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        served = export(model, path / "early", POLICY, pool.certificate)
        plain = export(model, path / "full", None, None)
        time_decoders.report_times(report, model, policy, served, plain, words)


def export(
    model: SwitchTransformer,
    directory: pathlib.Path,
    policy: EarlyExitPolicy | None,
    certificate: Certificate | None,
) -> Any:
    """Writes the model as it would be served, and loads it again."""
    serving.export(
        model,
        directory,
        tokenize=text.encode_words,
        detokenize=text.decode_phonemes,
        max_length=text.MAX_PHONEMES,
        input_name="word",
        output_name="phonemes",
        early_exit=policy,
        certificate=certificate,
    )
    return tf.saved_model.load(directory)


def _word_errors(
    phonemes: list[list[str]], listed: list[list[list[str]]]
) -> np.ndarray:
    edits, lengths = nearest_reference(phonemes, listed)
    return edits / lengths


def _shares(exit_layer: np.ndarray, layers: int) -> list[float]:
    counts = np.bincount(exit_layer.ravel(), minlength=layers + 1)[1:]
    return (counts / counts.sum()).round(4).tolist()
