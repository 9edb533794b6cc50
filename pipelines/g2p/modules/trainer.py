"""The Trainer component's code: examples in, a servable teacher out."""

import functools
from typing import Any

import keras

from keras_moe import distribution
from keras_moe.components import keep_history
from keras_moe.components import training_checkpoints
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.exporting import export_model
from pipelines.g2p.modules.presets import from_preset
from pipelines.g2p.modules.transformed import stream_pairs
from pipelines.g2p.modules.warm_start import start_from


def run_fn(fn_args: Any) -> None:
    """Trains, exports and keeps the Keras model beside the export.

    Args:
        fn_args: TFX's `FnArgs`. `custom_config` holds `preset`,
            `keep_stress`, `training`, `strategy` and `warm_start_share` (see
            `PipelineConfig`); `base_model` is the teacher to go on from, if
            there is one; `hyperparameters` are those of a Tuner, if there was
            one.
    """
    options = fn_args.custom_config
    keep_stress = bool(options["keep_stress"])
    chosen = dict(options["training"])
    if fn_args.hyperparameters:
        chosen |= fn_args.hyperparameters["values"]
    config = training.TrainingConfig(**chosen)

    keras.utils.set_random_seed(config.seed)
    with distribution.strategy(options["strategy"]).scope():
        model = new_teacher(options["preset"], keep_stress)
        if start_from(model, fn_args.base_model):
            config = config.shortened(options["warm_start_share"])
    with training_checkpoints(
        fn_args, every=training.UPDATES_BETWEEN_CHECKPOINTS
    ) as checkpoints:
        history = training.train(
            model,
            training_batches(
                functools.partial(stream_pairs, fn_args.train_files),
                model.config,
                config.batch_size,
                config.seed,
            ),
            evaluation_batches(
                functools.partial(stream_pairs, fn_args.eval_files),
                model.config,
                config.batch_size,
            ),
            config,
            checkpoints=checkpoints,
            show_progress=True,
        )
        export_model(
            model,
            fn_args.transform_graph_path,
            fn_args.serving_model_dir,
            keep_stress,
        )
        keep_history(history, fn_args.model_run_dir)


def new_teacher(preset: str, keep_stress: bool) -> SwitchTransformer:
    """Returns a teacher that has learned nothing.

    Args:
        preset: Its size.
        keep_stress: Which inventory of phonemes it has.
    """
    return from_preset(
        preset,
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(keep_stress),
    )
