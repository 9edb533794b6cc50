"""Models to save, and what was saved of them."""

import keras

from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._position import Position
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import make_built_model


def train_model():
    # A few steps take less time than their graph.
    model = make_built_model(run_eagerly=True)
    for _ in range(3):
        model.train_on_batch(X, Y)
    return model


def tiny(name="layer", width=3, dtype="float32"):
    layer = keras.layers.Dense(2, name=name, dtype=dtype)
    model = keras.Sequential([keras.Input([width]), layer])
    model.compile("adam", "mse")
    return model


def save_steps(checkpoints, model, *metrics):
    for step, value in enumerate(metrics):
        checkpoints.save(model, Position(step=step), {"m": value})
    checkpoints.wait()


def steps(checkpoints):
    return [read_arrays(p)[1]["position"]["step"] for p in checkpoints.paths]
