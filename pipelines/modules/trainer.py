"""The Trainer component's code: arrays in, a servable model out."""

import functools
import json
import os
import pathlib
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft

from keras_moe import serving
from keras_moe.models import SwitchTransformer
from pipelines.modules import text
from pipelines.modules import training
from pipelines.modules.preprocessing import ENCODER_TOKEN_IDS
from pipelines.modules.preprocessing import WORD
from pipelines.modules.preprocessing import WORD_STATUS
from pipelines.modules.training_progress import TrainingProgress
from pipelines.modules.transformed import read_pairs

# What the first requests after a start would otherwise pay for: one word and
# a batch, short and long.
_WARMUP_WORDS = ("a", "keras", "grapheme", "antidisestablishmentarianism")


def run_fn(fn_args: Any) -> None:
    """Trains, exports and keeps the Keras model beside the export.

    Args:
        fn_args: TFX's `FnArgs`. `custom_config` holds `preset`,
            `keep_stress` and `training` (see `PipelineConfig`).
    """
    options = fn_args.custom_config
    keep_stress = bool(options["keep_stress"])
    training_config = training.TrainingConfig(**options["training"])
    source, target = read_pairs(fn_args.train_files)

    keras.utils.set_random_seed(training_config.seed)
    model = SwitchTransformer.from_preset(
        options["preset"],
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(keep_stress),
    )
    history = training.train(
        model,
        source,
        target,
        validation=read_pairs(fn_args.eval_files),
        config=training_config,
        callbacks=[
            TrainingProgress(training_config.steps, training_config.max_minutes)
        ],
    )
    _export(
        model,
        fn_args.transform_graph_path,
        fn_args.serving_model_dir,
        keep_stress,
    )
    _keep_history(history, fn_args.model_run_dir)


def _export(
    model: keras.Model,
    transform_graph_path: str,
    directory: str,
    keep_stress: bool,
) -> None:
    """Writes the SavedModel, with what goes along with it."""
    transform = tft.TFTransformOutput(
        transform_graph_path
    ).transform_features_layer()

    def tokenize(words: tf.Tensor) -> dict[str, tf.Tensor]:
        # The very graph that made the training data.
        features = transform({WORD: words[:, tf.newaxis]})
        return {
            ENCODER_TOKEN_IDS: features[ENCODER_TOKEN_IDS],
            "status": features[WORD_STATUS],
        }

    serving.export(
        model,
        directory,
        tokenize=tokenize,
        detokenize=functools.partial(
            text.decode_phonemes, keep_stress=keep_stress
        ),
        max_length=text.MAX_PHONEMES,
        example_spec={WORD: tf.io.FixedLenFeature([], tf.string)},
        tracked=(transform,),
    )
    # A later Trainer (a distiller) takes the Keras model up from here.
    extra = os.path.join(directory, "assets.extra")
    tf.io.gfile.makedirs(extra)
    model.save(os.path.join(extra, "model.keras"))
    serving.write_warmup_requests(
        directory,
        [
            ("serving_default", {WORD: [_WARMUP_WORDS[0]]}),
            ("serving_default", {WORD: list(_WARMUP_WORDS)}),
        ],
    )


def _keep_history(history: Any, directory: str) -> None:
    """Writes the learning curve where TFX keeps the run's files."""
    curve = {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }
    path = pathlib.Path(directory) / "history.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(curve, indent=2) + "\n")
