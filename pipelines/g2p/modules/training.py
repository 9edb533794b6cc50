"""The training recipe, shared by the pipeline and the quality benchmark."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_moe import training
from keras_moe.losses import token_crossentropy
from keras_moe.ops import shift_right
from pipelines.g2p.modules.budgeted_schedule import (
    BudgetedSchedule as BudgetedSchedule,
)
from pipelines.g2p.modules.training_config import (
    TrainingConfig as TrainingConfig,
)
from pipelines.g2p.modules.training_progress import TrainingProgress

# So many take seconds on a slow machine, and a checkpoint a hundredth of that.
UPDATES_BETWEEN_CHECKPOINTS = 100

# Batches hold sequences of like length, so that little is padding.
_BUCKETS = (5, 6, 7, 8, 9, 10, 12, 16)


def train(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset | None,
    config: TrainingConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: training.Checkpoints | None = None,
    show_progress: bool = False,
) -> keras.callbacks.History:
    """Trains a `SwitchTransformer`, or goes on where it was killed.

    Args:
        model: the model; it is compiled here, under the strategy that it was
            made under.
        batches: a function from the number of a pass over the data, which may
            be a tensor, to its batches: the same each time.
        validation: batches, evaluated after each pass or, where a tenth of the
            steps takes several passes, after so many; `None` for none.
        config: how long and how to train.
        callbacks: further callbacks. Their states, too, are kept with the
            checkpoints, see `keras_moe.training.Trainer`.
        checkpoints: where to resume from; `None` for a training without.
        show_progress: whether lines tell how far the training is.

    Returns:
        The history of the whole training.

    Raises:
        ValueError: if there are no examples.
    """
    with model.distribute_strategy.scope():
        compile_model(model, config)
    schedule = BudgetedSchedule(config)
    shown = [TrainingProgress(schedule)] if show_progress else []
    return training.Trainer(model, checkpoints).fit(
        _epochs(batches, config.steps),
        # The schedule ends the training.
        epochs=config.steps,
        validation_data=validation,
        callbacks=[schedule, *callbacks, *shown],
        verbose=0,
    )


def _epochs(
    batches: Callable[[int], tf.data.Dataset], steps: int
) -> Callable[[int], tf.data.Dataset]:
    """Joins passes over little data to epochs of about a tenth of the steps.

    Otherwise a pass of few batches would be followed by an evaluation and a
    checkpoint that take longer than itself.
    """
    enough = -(-steps // 10)
    found = batches(0).take(enough).reduce(0, lambda count, *_: count + 1)
    if not found:
        raise ValueError(
            "`batches` must give batches to train on. Received: "
            "batches(0), which is empty."
        )
    passes = -(-enough // int(found))
    if passes == 1:
        return batches

    def epoch_batches(epoch: int) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(epoch * passes, (epoch + 1) * passes)
        return numbers.flat_map(batches)

    return epoch_batches


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
