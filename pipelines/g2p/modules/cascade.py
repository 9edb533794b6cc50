"""The CascadeCalibrator component's code: how wrong an answer is."""

import functools
from typing import Any

import numpy as np

from keras_moe.calibration import edit_distance_error
from keras_moe.components import CalibrationTask
from keras_moe.components import CalibrationTaskArgs
from pipelines.g2p.modules.exporting import export_model
from pipelines.g2p.modules.held_out import phonemes
from pipelines.g2p.modules.held_out import read_held_out
from pipelines.g2p.modules.page import expert_load_in


def cascade_task(args: CalibrationTaskArgs) -> CalibrationTask:
    """Reads the words of a split; a loss is the phoneme error of a word.

    Args:
        args: `custom_config` holds `keep_stress`, `max_words`, `batch_sizes`
            and `lengths`, see `PipelineConfig`.
    """
    keep_stress = bool(args.custom_config["keep_stress"])
    words = read_held_out(args.example_files, args.custom_config["max_words"])

    def loss(answers: dict[str, Any], listed: list) -> np.ndarray:
        said = phonemes(answers["token_ids"], keep_stress)
        return np.array(
            [
                edit_distance_error(each, *variants)
                for each, variants in zip(said, listed, strict=True)
            ]
        )

    export = functools.partial(_export, args=args, keep_stress=keep_stress)
    return CalibrationTask(words.token_ids, loss, export, words.listed)


def _export(
    directory: Any,
    cascade: Any,
    certificate: Any,
    args: CalibrationTaskArgs,
    keep_stress: bool,
) -> None:
    export_model(
        cascade,
        args.transform_graph_path,
        directory,
        keep_stress,
        certificate=certificate,
        batch_sizes=args.custom_config["batch_sizes"] or None,
        lengths=args.custom_config["lengths"] or None,
        draw_expert_load=expert_load_in(args.model_folders[0]),
    )
