"""The Trainer component's code: examples in, an encoder out."""

import functools
from typing import Any

import keras

from keras_moe import training
from keras_moe.components import keep_history
from keras_moe.components import training_checkpoints
from pipelines.search.model import Sizes
from pipelines.search.model import make_model
from pipelines.search.modules.batches import training_batches
from pipelines.search.modules.exporting import export_encoder
from pipelines.search.modules.training_config import TrainingConfig

_UPDATES_BETWEEN_CHECKPOINTS = 200


def run_fn(fn_args: Any) -> None:
    """Trains, and writes what embeds candidates.

    Args:
        fn_args: TFX's `FnArgs`. `custom_config` holds `training`, see
            `TrainingConfig`.
    """
    config = TrainingConfig(**fn_args.custom_config["training"])
    keras.utils.set_random_seed(config.seed)
    model = make_model(Sizes())
    model.compile(optimizer=keras.optimizers.Adam(config.peak_learning_rate))
    schedule = training.BudgetedSchedule(config)
    with training_checkpoints(
        fn_args, every=_UPDATES_BETWEEN_CHECKPOINTS
    ) as checkpoints:
        history = training.Trainer(model, checkpoints).fit(
            functools.partial(
                training_batches,
                fn_args.train_files,
                config.batch_size,
                config.seed,
            ),
            # The schedule ends the training.
            epochs=config.steps,
            callbacks=[schedule, training.TrainingProgress(schedule)],
            verbose=0,
        )
        export_encoder(model, fn_args.serving_model_dir)
        keep_history(history, fn_args.model_run_dir)
