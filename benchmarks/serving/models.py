"""Models to serve: one whose answers are known, and a real, untrained one."""

import pathlib
import shutil

import keras
import tensorflow as tf

from keras_moe import models
from keras_moe import serving

WORDS = tf.TensorSpec([None], tf.string, name="word")
_LETTERS = 64


class WordModel(tf.Module):
    """Upper-cases words and scales their lengths.

    Args:
        scale: the factor; tells one version's answers from another's.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = tf.Variable(scale)

    @tf.function(input_signature=[WORDS])
    def serving_default(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers a batch of words."""
        length = tf.cast(tf.strings.length(word), tf.float32)
        return {"upper": tf.strings.upper(word), "score": length * self.scale}


def save_words(directory: pathlib.Path, scale: float) -> pathlib.Path:
    """Saves a `WordModel`; gives the directory."""
    model = WordModel(scale)
    tf.saved_model.save(model, str(directory), model.serving_default)
    return directory


def save_transformer(directory: pathlib.Path, seed: int) -> pathlib.Path:
    """Exports an untrained `SwitchTransformer`; gives the directory.

    What it answers is of no use; how long it takes is what a trained one of
    its size would.

    Args:
        directory: where to write.
        seed: of the weights; tells one version's answers from another's.
    """
    keras.utils.set_random_seed(seed)
    model = models.SwitchTransformer.from_preset(
        "switch_tiny", vocabulary_size=_LETTERS
    )
    serving.export(
        model,
        directory,
        tokenize=lambda words: {
            "encoder_token_ids": tf.strings.unicode_decode(
                words, "UTF-8"
            ).to_tensor()
            % _LETTERS
        },
        detokenize=lambda ids: tf.strings.reduce_join(
            tf.strings.as_string(ids), axis=1, separator=" "
        ),
        max_length=16,
        input_name=WORDS.name,
    )
    return directory


def push(saved: pathlib.Path, base: pathlib.Path, version: int) -> None:
    """Copies a model into the versions in one move, as Pusher does."""
    staging = base / f"staging-{version}"
    shutil.copytree(saved, staging)
    staging.rename(base / str(version))
