"""The training recipe, shared by the pipeline and the quality benchmark."""

from collections.abc import Callable
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_moe import training
from keras_moe.losses import token_crossentropy
from pipelines.g2p.modules.training_config import (
    TrainingConfig as TrainingConfig,
)

# So many take seconds on a slow machine, and a checkpoint a hundredth of that.
UPDATES_BETWEEN_CHECKPOINTS = 100


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
    schedule = training.BudgetedSchedule(config)
    shown = [training.TrainingProgress(schedule)] if show_progress else []
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
