"""A model that some batches spoil, and a training that ends in the middle."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3, 4)).astype("float32")
Y = np.roll(X, 1, -1)


@tf.custom_gradient
def _spoils_backwards(x):
    def backward(upstream):
        return tf.where(tf.reduce_any(x > 50.0), np.nan, 1.0) * upstream

    return tf.identity(x), backward


class Spoiler(keras.layers.Layer):
    """The identity, but for numbers above 50.

    With `forward` it makes infinities of them, without, gradients that are not
    numbers.
    """

    def __init__(self, forward=True, **kwargs):
        super().__init__(**kwargs)
        self.forward = forward

    def call(self, x):
        if self.forward:
            return x / ops.cast(x < 50.0, x.dtype)
        return _spoils_backwards(x)


class Stateful(keras.layers.Layer):
    """Has all that a mixture of experts has, and is traced sooner.

    A loss, a metric, a weight that training moves, and numbers that it draws.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tracker = keras.metrics.Mean(name=f"{self.name}/size")
        self.seed_generator = keras.random.SeedGenerator(1)

    def build(self, input_shape):
        self.moving = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="moving"
        )
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x, training=None):
        size = ops.mean(ops.square(x))
        # Two reads are not safe: TensorFlow now and then runs one after the
        # update of the same step: the loss is then that of the next weights.
        scale = 1.0 * self.scale
        self.add_loss(0.1 * scale * size)
        self.tracker.update_state(size)
        if training:
            self.moving.assign(0.9 * self.moving + 0.1 * size)
            noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
            x = x + 0.1 * self.moving * noise
        return scale * x


def make_model(forward=True, optimizer=None, stateful=None):
    """A small model; with a `stateful` layer its state is more than weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 4))
    x = keras.layers.Dropout(0.2)(inputs)
    x = keras.layers.Dense(4, kernel_initializer="identity", name="dense")(x)
    x = Spoiler(forward, name="spoiler")(x)
    # So that a large number spoils nothing else.
    x = ops.clip(x, -3.0, 3.0) if not forward else x
    outputs = stateful(name="stateful")(x) if stateful else x
    model = keras.Model(inputs, outputs, name="model")
    # By XLA, in `compiled_steps_test`: here it would take a second a model.
    model.compile(
        optimizer or keras.optimizers.Adam(1e-3),
        "mse",
        metrics=["mae"],
        jit_compile=False,
    )
    return model


def data_of(x=X, y=Y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


def with_bad(*batches):
    """The data with a number in some batches that `Spoiler` spoils."""
    x = X.copy()
    for batch in batches:
        x[4 * batch + 1] = 100.0
    return x


def weights_of(model):
    return [np.asarray(weight) for weight in model.weights]


def assert_equal(received, expected):
    for mine, theirs in zip(received, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Crash(keras.callbacks.Callback):
    """Ends the process, as it were, before a batch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


class Count(keras.callbacks.Callback):
    """Counts updates, and stops the training after some of them."""

    def __init__(self, stop_at):
        super().__init__()
        self.updates, self.stop_at = 0, stop_at

    def get_state(self):
        return {"updates": self.updates}

    def set_state(self, state):
        self.updates = state["updates"]

    def _stop_at_the_end(self):
        if self.updates >= self.stop_at:
            self.model.stop_training = True

    def on_train_begin(self, logs=None):
        self._stop_at_the_end()

    def on_train_batch_end(self, batch, logs=None):
        self.updates += 1
        self._stop_at_the_end()
