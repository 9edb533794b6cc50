"""One of several workers: `python -m tests.training.workers_case NAME`.

`TF_CONFIG` says which; without it, the one process that there is.
"""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distribution._strategy import strategy
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.training._trainer import Trainer
from keras_moe.training.checkpoints._checkpoints import Checkpoints

DIM = 5


def make_model(scope):
    with scope.scope():
        keras.utils.set_random_seed(0)
        router = SwitchRouter(
            group_size="sequence",
            jitter_noise=0.0,
            load_balancing_loss_weight=0.1,
            kernel_initializer="glorot_normal",
        )
        inputs = keras.Input((6, DIM))
        outputs = inputs + SparseMoE(4, 8, router=router, name="moe")(inputs)
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def examples(bad=False):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(32, 6, DIM)).astype("float32")
    y = np.roll(x, 1, -1)
    if bad:
        # The first batch of two epochs; of two workers, the second has it.
        x[7, 2, 3] = np.nan
    return tf.data.Dataset.from_tensor_slices((x, y))


def is_chief_of_several(scope):
    resolver = scope.cluster_resolver
    return resolver is not None and resolver.task_id == 0


class Stop(keras.callbacks.Callback):
    """Stops the training of this worker."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            self.model.stop_training = True


class Die(keras.callbacks.Callback):
    """Is killed at some batch, and says what came before it."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.last = (epoch, batch)
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.last:
            os._exit(7)


def report(**said):
    print("REPORT", json.dumps(said), flush=True)


def weights_of(model):
    return [np.asarray(weight).tolist() for weight in model.weights]


def losses(scope, directory):
    """What is learnt and reported."""
    model = make_model(scope)
    trainer = Trainer(model, gradient_accumulation_steps=2)
    history = trainer.fit(
        examples().batch(8), epochs=2, validation_data=examples().batch(8)
    ).history
    stopped = Trainer(model).fit(
        examples().batch(8),
        epochs=3,
        # Of one worker alone: all must stop.
        callbacks=[] if is_chief_of_several(scope) else [Stop()],
    )
    report(
        history=history,
        weights=weights_of(model),
        stopped=len(stopped.history["loss"]),
    )


def faults(scope, directory):
    """A batch with what is not a number, in the part of one worker."""
    model = make_model(scope)
    checkpoints = Checkpoints(directory, every=2)
    trainer = Trainer(model, checkpoints)
    history = trainer.fit(examples(bad=True).batch(8), epochs=2, verbose=0)
    report(
        history=history.history,
        weights=weights_of(model),
        skipped=trainer.position.skipped,
    )


def lost(scope, directory):
    """The last worker dies in the second epoch."""
    model = make_model(scope)
    trainer = Trainer(model, Checkpoints(directory, every=1))
    callbacks = None if is_chief_of_several(scope) else [Die(1, 2)]
    try:
        trainer.fit(
            examples().batch(8), epochs=3, callbacks=callbacks, verbose=0
        )
    except RuntimeError as error:
        report(error=str(error), kind=type(error).__name__)


def resumed(scope, directory):
    """From what is in the directory to the end."""
    model = make_model(scope)
    trainer = Trainer(model, Checkpoints(directory, every=1))
    history = trainer.fit(examples().batch(8), epochs=3, verbose=0)
    report(history=history.history, weights=weights_of(model))


if __name__ == "__main__":
    made = strategy("multi_worker" if "TF_CONFIG" in os.environ else "default")
    globals()[sys.argv[1]](made, sys.argv[2])
