"""The ExitCalibrator component's code: what an early answer costs."""

import functools

import numpy as np

from keras_moe.calibration import edit_distance_error
from keras_moe.calibration import risk_consistency
from keras_moe.components import CalibrationTask
from keras_moe.components import CalibrationTaskArgs
from pipelines.g2p.modules.exporting import export_model
from pipelines.g2p.modules.held_out import phonemes
from pipelines.g2p.modules.held_out import read_held_out
from pipelines.g2p.modules.page import expert_load_in


def exit_task(args: CalibrationTaskArgs) -> CalibrationTask:
    """Reads the calibration words; a loss is what exits add to the error.

    Args:
        args: `custom_config` holds `keep_stress`, `max_words`, `batch_sizes`
            and `lengths`, see `PipelineConfig`.
    """
    (student,) = args.models
    keep_stress = bool(args.custom_config["keep_stress"])
    words = read_held_out(args.example_files, args.custom_config["max_words"])
    decode = functools.partial(phonemes, keep_stress=keep_stress)

    def loss(early: np.ndarray, full: np.ndarray) -> np.ndarray:
        return risk_consistency(
            decode(early), decode(full), words.listed, edit_distance_error
        )

    def export(directory, early_exit, certificate) -> None:
        export_model(
            student,
            args.transform_graph_path,
            directory,
            keep_stress,
            early_exit,
            certificate,
            args.custom_config["batch_sizes"] or None,
            args.custom_config["lengths"] or None,
            expert_load_in(args.model_folders[0]),
        )

    return CalibrationTask(words.token_ids, loss, export)
