"""Size and latency of teacher and student as they are served."""

import dataclasses
import pathlib
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.early_exit.time_decoders import speedups
from benchmarks.shared.dictionary import answered_phonemes
from benchmarks.shared.dictionary import word_ids
from benchmarks.shared.report import Report
from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.calibration import NotCertifiedError
from keras_moe.calibration import calibrate_exits
from keras_moe.calibration import edit_distance_error
from keras_moe.calibration import risk_consistency
from keras_moe.generation import EarlyExitPolicy
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import SparseMoE
from keras_moe.metrics import symbol_error_rate
from keras_moe.models import SwitchTransformer
from keras_moe.weights import transfer
from pipelines.g2p.modules import text

POLICY = EarlyExitPolicy("softmax")
TOLERANCE = 0.02
THRESHOLDS = (0.99, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
EXECUTORS = ("gather", "ragged", "einsum")
_CALIBRATION_WORDS = 3000
_TIMED_WORDS = 60


def report_served(
    report: Report,
    teacher: SwitchTransformer,
    student: SwitchTransformer,
    splits: dict,
) -> None:
    """Adds what serving costs, and what the served student gets wrong.

    Args:
        report: where to.
        teacher: timed with each executor; the fastest counts.
        student: with exits; timed as it is, with certified exits, and the
            same in int8.
        splits: of the dictionary.
    """
    small = SwitchTransformer.from_config(student.get_config())
    transfer(student, small, use_all=True)
    small.quantize("int8")
    with tempfile.TemporaryDirectory() as folder:
        served = {}
        for executor in EXECUTORS:
            for layer in flatten_layers(teacher):
                if isinstance(layer, SparseMoE):
                    layer.dispatch = executor
            served[f"teacher_{executor}"] = _export(teacher, folder, executor)
        served["student"] = _export(student, folder, "full")
        for name, model in (("early", student), ("early_int8", small)):
            certificate = _certify(model, splits["calibration"])
            served[f"student_{name}"] = _export(
                model, folder, name, certificate
            )
            _report_errors(report, name, model, certificate, splits["test"])
        report.add_figures(
            {
                f"{name}_megabytes": megabytes
                for name, (_, megabytes) in served.items()
            }
        )
        words = [word for word, _ in splits["test"]]
        words = words[:: len(words) // _TIMED_WORDS][:_TIMED_WORDS]
        signatures = {
            name: loaded.signatures["serving_default"]
            for name, (loaded, _) in served.items()
        }
        times = speedups(
            {
                name: lambda word, name=name: signatures[name](word=word)
                for name in served
            },
            [tf.constant([word]) for word in words],
        )
    report.add_figures({f"{name}_ms": times[f"{name}_ms"] for name in served})
    best = min(times[f"teacher_{executor}_ms"] for executor in EXECUTORS)
    for name in ("student", "student_early_int8"):
        report.add_figures({f"{name}_speedup": best / times[f"{name}_ms"]})
    report.add_claim(
        "served_speedup", best / times["student_early_ms"], 5.0, ">="
    )


def _certify(model: SwitchTransformer, entries: list) -> Certificate | None:
    """Certifies a threshold on words that had no part in training.

    `None` if no threshold passes: all layers are then to run.
    """
    entries = entries[:_CALIBRATION_WORDS]
    listed = [[p.split() for p in answers] for _, answers in entries]

    def loss(early: np.ndarray, full: np.ndarray) -> np.ndarray:
        return risk_consistency(
            answered_phonemes(early),
            answered_phonemes(full),
            listed,
            edit_distance_error,
        )

    try:
        return calibrate_exits(
            model,
            word_ids(entries),
            POLICY,
            THRESHOLDS,
            loss,
            TOLERANCE,
            max_length=text.MAX_PHONEMES,
            verbose=0,
        )
    except NotCertifiedError:
        return None


def _report_errors(
    report: Report,
    name: str,
    model: SwitchTransformer,
    certificate: Certificate | None,
    entries: list,
) -> None:
    # Without a certificate no token may leave early: no confidence reaches an
    # infinite threshold.
    threshold = np.inf if certificate is None else certificate.threshold
    policy = dataclasses.replace(POLICY, threshold=threshold)
    answers, layers = [], []
    for start in range(0, len(entries), 1024):
        decoded = model.generate(
            word_ids(entries[start : start + 1024]),
            text.MAX_PHONEMES,
            early_exit=policy,
        )
        answers += answered_phonemes(np.array(decoded["token_ids"]))
        left = np.array(decoded["exit_layer"])
        layers.append(left[left > 0])
    listed = [[p.split() for p in answers] for _, answers in entries]
    report.add_figures(
        {
            f"student_{name}_phoneme_error_rate": symbol_error_rate(
                answers, listed
            ),
            f"student_{name}_mean_exit_layer": float(
                np.concatenate(layers).mean()
            ),
            f"student_{name}_threshold": threshold,
        }
    )


def _export(
    model: SwitchTransformer,
    folder: str,
    name: str,
    certificate: Certificate | None = None,
) -> tuple[Any, float]:
    """Exports a model, loads it as a server would; also its megabytes."""
    directory = pathlib.Path(folder) / name
    serving.export(
        model,
        directory,
        tokenize=text.encode_words,
        detokenize=text.decode_phonemes,
        max_length=text.MAX_PHONEMES,
        input_name="word",
        output_name="phonemes",
        early_exit=None if certificate is None else POLICY,
        certificate=certificate,
    )
    size = sum(file.stat().st_size for file in directory.glob("variables/*"))
    return tf.saved_model.load(directory), size / 1e6
