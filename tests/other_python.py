"""Writes a trained model in all its forms, or reads what another Python wrote.

python -m tests.other_python write|read FOLDER
"""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_moe.layers import SparseMoE
from keras_moe.training import Checkpoints
from keras_moe.training import Position

X = np.linspace(-2, 2, 3 * 5 * 8, dtype="float32").reshape(3, 5, 8)


def make(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5, 8))
    hidden = SparseMoE(4, 16)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    model.compile("adam", "mse")
    return model


def write(folder: pathlib.Path) -> None:
    model = make(1)
    model.fit(X, X[..., :2], epochs=2, shuffle=False, verbose=0)
    model.save(folder / "model.keras")
    model.export(folder / "exported", verbose=False)
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(model, Position(step=2))
    checkpoints.wait()
    np.save(folder / "written.npy", model(X))
    model.fit(X, X[..., :2], shuffle=False, verbose=0)
    np.save(folder / "trained_on.npy", model(X))


def read(folder: pathlib.Path) -> None:
    loaded = keras.models.load_model(folder / "model.keras")
    exported = tf.saved_model.load(folder / "exported")
    restored = make(2)
    assert Checkpoints(folder / "checkpoints").restore(restored).step == 2
    found = {"loaded": loaded(X), "exported": exported.serve(X)}
    found["restored"] = restored(X)
    # Restores the optimizer too: training goes on as if never interrupted.
    restored.fit(X, X[..., :2], shuffle=False, verbose=0)
    np.savez(folder / "read.npz", trained_on=restored(X), **found)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
