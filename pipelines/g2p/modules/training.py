"""The training recipe, shared by the pipeline and the quality benchmark."""

import time
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_moe import training
from keras_moe.losses import token_crossentropy
from keras_moe.ops import shift_right
from pipelines.g2p.modules.training_config import (
    TrainingConfig as TrainingConfig,
)

# Batches hold sequences of like length, so that little is padding.
_BUCKETS = (5, 6, 7, 8, 9, 10, 12, 16)


class BudgetedSchedule(keras.callbacks.Callback):
    """Sets the learning rate by the share of the budget that is spent.

    The budget is a number of steps or a time, whichever ends first: training
    always comes to a smooth end, on a slow machine too.

    Args:
        config: the training config.
        first_step: number of updates that were done before.
    """

    def __init__(self, config: TrainingConfig, first_step: int = 0):
        super().__init__()
        self.config = config
        self.step = first_step
        self._began: float | None = None

    def progress(self) -> float:
        """Returns the share of the budget that is spent, up to 1."""
        spent = self.step / self.config.steps
        if self.config.max_minutes and self._began is not None:
            minutes = (time.monotonic() - self._began) / 60
            spent = max(spent, minutes / self.config.max_minutes)
        return min(spent, 1.0)

    def learning_rate(self) -> float:
        """Returns the rate of the next update."""
        progress, warmup = self.progress(), self.config.warmup
        if progress < warmup:
            rising = max(progress, 1 / self.config.steps) / warmup
            return self.config.peak_learning_rate * rising
        falling = (progress - warmup) / (1.0 - warmup)
        share = 0.5 * (1.0 + np.cos(np.pi * falling))
        return self.config.peak_learning_rate * float(share)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None):
        """Sets the rate of this update."""
        self.model.optimizer.learning_rate.assign(self.learning_rate())

    def on_train_batch_end(self, batch: int, logs: dict | None = None):
        """Counts the update, and stops when the budget is spent."""
        # The first update traces and compiles; the clock starts after it.
        if self._began is None:
            self._began = time.monotonic()
        self.step += 1
        if self.progress() >= 1.0:
            self.model.stop_training = True


def train(
    model: keras.Model,
    source: np.ndarray,
    target: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None,
    config: TrainingConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Trains a `SwitchTransformer` on pairs of sequences.

    Args:
        model: the model; it is compiled here, under the strategy that it was
            made under.
        source: int `[n, s]`, padded with the model's `pad_id`.
        target: int `[n, t]`, each ended by the model's `end_id`, padded.
        validation: such a pair, evaluated after each tenth of the steps;
            `None` for none.
        config: how long and how to train.
        callbacks: further callbacks.

    Returns:
        The history of `fit`.

    Raises:
        ValueError: if there are no examples, or the numbers of sources and
            targets differ.
    """
    if len(source) != len(target) or not len(source):
        raise ValueError(
            "`source` and `target` must hold the same, positive number of "
            f"rows. Received: {len(source)} and {len(target)}."
        )
    with model.distribute_strategy.scope():
        compile_model(model, config)
    epochs = min(10, config.steps)
    options = {
        "steps_per_epoch": -(-config.steps // epochs),
        "epochs": epochs,
        "validation_data": None
        if validation is None
        else batches(*validation, model.config, config.batch_size, seed=None),
        "callbacks": [BudgetedSchedule(config), *callbacks],
        "verbose": 0,
    }
    stream = batches(
        source, target, model.config, config.batch_size, config.seed
    )
    if tf.distribute.get_strategy() is not model.distribute_strategy:
        # Keras's `fit` fails under some strategies; the library's loop works
        # under each.
        return training.Trainer(model).fit(stream, **options)
    # Shuffling is off in `fit`: the stream of batches is shuffled already.
    return model.fit(stream, shuffle=False, **options)


def compile_model(model: keras.Model, config: TrainingConfig) -> None:
    """Gives the model its loss and its optimiser."""

    def loss(labels, logits, sample_weight=None):
        return token_crossentropy(
            labels,
            logits,
            model.config.pad_id,
            config.label_smoothing,
            sample_weight,
        )

    model.compile(
        optimizer=keras.optimizers.AdamW(
            config.peak_learning_rate,
            beta_2=0.98,
            weight_decay=config.weight_decay,
            clipnorm=1.0,
        ),
        loss=loss,
        # XLA would compile a program for each length of a bucket.
        jit_compile=False,
    )


def batches(
    source: np.ndarray,
    target: np.ndarray,
    model_config,
    batch_size: int,
    seed: int | None,
) -> tf.data.Dataset:
    """Returns batches of teacher-forced inputs and labels.

    Args:
        source: int `[n, s]`.
        target: int `[n, t]`.
        model_config: the model's config (its special ids).
        batch_size: rows of a batch.
        seed: seed of an endless, shuffled stream; `None` for one pass in
            order.
    """
    source, target = np.asarray(source, "int32"), np.asarray(target, "int32")
    pad_id = model_config.pad_id

    def generate() -> Iterator[tuple]:
        for rows in _rows(source, target, pad_id, batch_size, seed):
            x = _trim(source[rows], pad_id)
            y = _trim(target[rows], pad_id)
            yield x, y

    ids = tf.TensorSpec((None, None), tf.int32)
    pairs = tf.data.Dataset.from_generator(
        generate, output_signature=(ids, ids)
    )
    number = -(-len(source) // batch_size)
    if seed is not None:
        number = tf.data.INFINITE_CARDINALITY
    pairs = pairs.apply(tf.data.experimental.assert_cardinality(number))

    def teach(x, y):
        inputs = {
            "encoder_token_ids": x,
            "decoder_token_ids": shift_right(y, model_config.start_id),
        }
        return inputs, y

    return pairs.map(teach).prefetch(4)


def _rows(
    source: np.ndarray,
    target: np.ndarray,
    pad_id: int,
    batch_size: int,
    seed: int | None,
) -> Iterator[np.ndarray]:
    """Yields the rows of each batch, bucketed by the longer sequence."""
    length = np.maximum(
        (source != pad_id).sum(axis=1), (target != pad_id).sum(axis=1)
    )
    bucket = np.searchsorted(_BUCKETS, length)
    random = np.random.default_rng(seed)
    while True:
        order = np.arange(len(source))
        if seed is not None:
            random.shuffle(order)
        # Sequences of a batch have like lengths; batches come in random order.
        order = order[np.argsort(bucket[order], kind="stable")]
        starts = np.arange(0, len(order), batch_size)
        if seed is not None:
            random.shuffle(starts)
        for start in starts:
            yield order[start : start + batch_size]
        if seed is None:
            return


def _trim(ids: np.ndarray, pad_id: int) -> np.ndarray:
    """Cuts off the columns at the end that are padding in every row."""
    (used,) = np.nonzero((ids != pad_id).any(axis=0))
    return ids[:, : used[-1] + 1 if len(used) else 1]
