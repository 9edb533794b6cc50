"""Small models and data for trainers that wrap a model."""

import keras
import numpy as np
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int64") + (X[:, 1] > 0)
WEIGHTS = np.linspace(0, 2, 16)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make(dtype=None, regularizer=None, norm=False):
    keras.utils.set_random_seed(4)
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(
            8,
            activation="tanh",
            name="features",
            dtype=dtype,
            kernel_regularizer=regularizer,
        ),
        keras.layers.Dense(3, name="head", dtype=dtype),
    ]
    if norm:
        layers.insert(2, keras.layers.BatchNormalization())
    return keras.Sequential(layers)


def fit(trainer, optimizer=None, epochs=2, repeat=1, **options):
    """To begin an epoch takes longer than its two steps: `repeat` them."""
    optimizer = optimizer or keras.optimizers.Adam(0.05)
    options.setdefault("jit_compile", False)
    trainer.compile(optimizer, LOSS, metrics=["accuracy"], **options)
    data = tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(8)
    return trainer.fit(data.repeat(repeat), epochs=epochs, verbose=0).history
