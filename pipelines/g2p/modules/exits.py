"""The ExitCalibrator component's code: what an early answer costs."""

import functools

import numpy as np
import tensorflow as tf

from keras_moe.calibration import edit_distance_error
from keras_moe.calibration import risk_consistency
from keras_moe.components import CalibrationTask
from keras_moe.components import CalibrationTaskArgs
from pipelines.g2p.modules import text
from pipelines.g2p.modules.exporting import export_model
from pipelines.g2p.modules.preprocessing import PRONUNCIATIONS
from pipelines.g2p.modules.preprocessing import WORD
from pipelines.g2p.phonemes import VARIANT_SEPARATOR

_SPEC = {
    WORD: tf.io.FixedLenFeature([], tf.string),
    PRONUNCIATIONS: tf.io.FixedLenFeature([], tf.string),
}


def exit_task(args: CalibrationTaskArgs) -> CalibrationTask:
    """Reads the calibration words; a loss is what exits add to the error.

    Args:
        args: `custom_config` holds `keep_stress`, `max_words`, `batch_sizes`
            and `lengths`, see `PipelineConfig`.
    """
    keep_stress = bool(args.custom_config["keep_stress"])
    words, listed = _read(args.example_files, args.custom_config["max_words"])
    decode = functools.partial(_phonemes, keep_stress=keep_stress)

    def loss(early: np.ndarray, full: np.ndarray) -> np.ndarray:
        return risk_consistency(
            decode(early), decode(full), listed, edit_distance_error
        )

    def export(directory, early_exit, certificate) -> None:
        export_model(
            args.models[0],
            args.transform_graph_path,
            directory,
            keep_stress,
            early_exit,
            certificate,
            args.custom_config["batch_sizes"] or None,
            args.custom_config["lengths"] or None,
        )

    return CalibrationTask(
        inputs=text.encode_words(words)["encoder_token_ids"].numpy(),
        loss=loss,
        export=export,
    )


def _read(
    file_patterns: list[str], max_words: int
) -> tuple[tf.Tensor, list[list[list[str]]]]:
    """Returns words, and the phonemes of all pronunciations of each."""
    files = tf.io.gfile.glob(list(file_patterns))
    records = tf.data.TFRecordDataset(sorted(files), "GZIP")
    batch = next(iter(records.take(max_words).batch(max_words)), None)
    if batch is None:
        raise ValueError(
            "The calibration split must hold a word. Received: none in "
            f"{', '.join(file_patterns)}."
        )
    parsed = tf.io.parse_example(batch, _SPEC)
    listed = [
        [p.split() for p in variants.decode().split(VARIANT_SEPARATOR)]
        for variants in parsed[PRONUNCIATIONS].numpy()
    ]
    return parsed[WORD], listed


def _phonemes(token_ids: np.ndarray, keep_stress: bool) -> list[list[str]]:
    answers = text.decode_phonemes(tf.constant(token_ids), keep_stress)
    return [answer.decode().split() for answer in answers.numpy()]
