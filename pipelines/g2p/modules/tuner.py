"""The Tuner component's code: a few short trainings choose for the long one."""

import dataclasses
import functools
from typing import Any

import keras
import keras_tuner
from tfx import v1 as tfx

from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import Pairs
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.trainer import new_teacher
from pipelines.g2p.modules.transformed import stream_pairs

# Share of the real training's steps, and of its minutes, that a trial gets.
_SHARE = 0.05


class TeacherSpace(keras_tuner.HyperModel):
    """Learning rate and label smoothing of a teacher.

    Args:
        options: The trainer's `custom_config`.
        train: What to train on.
        validation: What to compare on.
    """

    def __init__(
        self, options: dict[str, Any], train: Pairs, validation: Pairs
    ):
        super().__init__()
        self._options = options
        self._train = train
        self._validation = validation
        config = training.TrainingConfig(**options["training"])
        self._config = config.shortened(_SHARE)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns a new teacher, the same for all trials."""
        hp.Float("peak_learning_rate", 5e-4, 4e-3, sampling="log")
        hp.Choice("label_smoothing", [0.0, 0.05, 0.1])
        keras.utils.set_random_seed(self._config.seed)
        return new_teacher(
            self._options["preset"], bool(self._options["keep_stress"])
        )

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        **_: Any,
    ) -> dict[str, float]:
        """Trains for a short time, and tells the loss on listed answers."""
        training.train(
            model,
            training_batches(
                self._train,
                model.config,
                self._config.batch_size,
                self._config.seed,
            ),
            validation=None,
            config=dataclasses.replace(self._config, **hp.values),
        )
        # Losses with different label smoothing cannot be compared.
        plain = dataclasses.replace(self._config, label_smoothing=0.0)
        training.compile_model(model, plain)
        batches = evaluation_batches(
            self._validation, model.config, plain.batch_size
        )
        figures = model.evaluate(batches, verbose=0, return_dict=True)
        return {"val_loss": float(figures["loss"])}


def tuner_fn(fn_args: Any) -> tfx.components.TunerFnResult:
    """Returns what the Tuner component runs.

    Args:
        fn_args: TFX's `FnArgs`. `custom_config` is the trainer's, with the
            number of `trials`.
    """
    options = fn_args.custom_config
    space = TeacherSpace(
        options,
        functools.partial(stream_pairs, fn_args.train_files),
        functools.partial(stream_pairs, fn_args.eval_files),
    )
    tuner = keras_tuner.RandomSearch(
        space,
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=options["trials"],
        # By default Keras Tuner passes over failing trials, so that the best of
        # the rest would hide a broken training.
        max_consecutive_failed_trials=1,
        seed=options["training"]["seed"],
        directory=fn_args.working_dir,
        project_name="teacher",
    )
    return tfx.components.TunerFnResult(tuner=tuner, fit_kwargs={})
