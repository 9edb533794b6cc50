"""The model of `pipelines.search`, trained without the pipeline."""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_moe.models import DualEncoder
from keras_moe.training import BudgetedSchedule
from keras_moe.training import Trainer
from pipelines.search.data.wordnet import Synset
from pipelines.search.model import Sizes
from pipelines.search.model import make_model
from pipelines.search.modules.batches import lemma_keys
from pipelines.search.modules.training_config import TrainingConfig

_AT_ONCE = 4096


class Trained(NamedTuple):
    """A model, and what it took.

    Attributes:
        model: trained.
        updates: that were made.
        minutes: of the clock.
        cpu_minutes: of all cores.
    """

    model: DualEncoder
    updates: int
    minutes: float
    cpu_minutes: float


def train(synsets: Sequence[Synset], config: TrainingConfig) -> Trained:
    """Trains the model of the demo.

    Args:
        synsets: of the training split.
        config: as of the demo.
    """
    keras.utils.set_random_seed(config.seed)
    model = make_model(Sizes())
    model.compile(optimizer=keras.optimizers.Adam(config.peak_learning_rate))
    schedule = BudgetedSchedule(config)
    x = {
        "query": np.array([each.gloss for each in synsets]),
        "document": np.array([each.document for each in synsets]),
    }
    keys = lemma_keys(tf.ragged.constant([each.lemmas for each in synsets]))
    pairs = tf.data.Dataset.from_tensor_slices((x, keys))

    def batches(epoch: int) -> tf.data.Dataset:
        seed = config.seed * config.steps + epoch
        shuffled = pairs.shuffle(len(synsets), seed=seed)
        return shuffled.batch(config.batch_size, drop_remainder=True)

    began, cpu_began = time.monotonic(), time.process_time()
    Trainer(model).fit(
        # The schedule ends the training.
        batches,
        epochs=config.steps,
        callbacks=[schedule],
        verbose=0,
    )
    return Trained(
        model,
        schedule.step,
        (time.monotonic() - began) / 60,
        (time.process_time() - cpu_began) / 60,
    )


def without_clock(config: TrainingConfig, factor: int = 1) -> TrainingConfig:
    """Returns the same, with so many times the updates however long it takes.

    Args:
        config: of the demo, which ends by the clock where a machine is slow.
        factor: of the updates.
    """
    return dataclasses.replace(
        config, steps=factor * config.steps, max_minutes=0.0
    )


def embed(encode, texts: Sequence[str]) -> np.ndarray:
    """Returns float32 `[texts, dim]`.

    Args:
        encode: of the model.
        texts: to be embedded.
    """
    texts = np.array(texts)
    return np.concatenate(
        [
            encode(texts[first : first + _AT_ONCE]).numpy()
            for first in range(0, len(texts), _AT_ONCE)
        ]
    )
