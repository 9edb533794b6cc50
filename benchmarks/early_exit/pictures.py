"""Pictures of the early-exit benchmark."""

import dataclasses
import pathlib
from typing import Any

import tensorflow as tf

from benchmarks.early_exit.certified import POLICY
from benchmarks.early_exit.certified import TOLERANCE
from keras_moe import visualization
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import text

# Common English words, chosen before their exit depths were known.
_WORDS = ("photograph", "colonel", "keyboard", "rhythm", "butter")


def draw(
    figures: dict[str, Any], model: SwitchTransformer, folder: pathlib.Path
) -> None:
    """Draws risk over depth, and where the tokens of some words leave.

    Args:
        figures: those of the benchmark's report.
        model: the trained model.
        folder: where to write.
    """
    visualization.plot_risk_versus_speed(
        figures["thresholds"],
        figures["calibration_risks"],
        figures["calibration_depths"],
        TOLERANCE,
        figures["certified_threshold"],
        risk_label="phoneme error above the full model",
        title="Calibration split of the CMU dictionary, 8 layers",
        path=folder / "early_exit.png",
    )
    policy = dataclasses.replace(
        POLICY, threshold=figures["certified_threshold"]
    )
    ids = text.encode_words(tf.constant(_WORDS))["encoder_token_ids"]
    decoded = model.generate(ids, text.MAX_PHONEMES, early_exit=policy)
    phonemes = [
        answer.decode().split() + ["(end)"]
        for answer in text.decode_phonemes(decoded["token_ids"]).numpy()
    ]
    depths = [
        row[: len(said)].tolist()
        for row, said in zip(
            decoded["exit_layer"].numpy(), phonemes, strict=True
        )
    ]
    layers = model.config.num_decoder_layers
    shared = {"title": "Where tokens leave", "labels": list(_WORDS)}
    visualization.plot_exit_depth(
        phonemes, depths, layers, path=folder / "exit_depth.png", **shared
    )
    visualization.exit_depth_html(
        phonemes, depths, layers, path=folder / "exit_depth.html", **shared
    )
