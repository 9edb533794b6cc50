"""Digits of scikit-learn: images of 8 x 8 pixels, split by seed."""

import functools
from typing import NamedTuple

import keras
import numpy as np

TEACHERS, VALIDATION = 1_200, 200


class Part(NamedTuple):
    """Images `[n, 64]`, in [0, 1], and their digits `[n]`."""

    x: np.ndarray
    y: np.ndarray


def load(seed: int) -> dict[str, Part]:
    """Gives what the teacher learns from, validation and test images."""
    x, y = _arrays()
    order = np.random.default_rng(seed).permutation(len(y))
    ends = [0, TEACHERS, TEACHERS + VALIDATION, len(y)]
    names = ("train", "validation", "test")
    return {
        name: Part(x[order[start:end]], y[order[start:end]])
        for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)
    }


@functools.cache
def _arrays() -> tuple[np.ndarray, np.ndarray]:
    # Imported late: it takes seconds.
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16.0).astype("float32"), y.astype("int64")


def classifier(hidden: int, seed: int) -> keras.Sequential:
    """Returns a network of one hidden layer, that gives logits."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input([64]),
            keras.layers.Dense(hidden, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def crossentropy() -> keras.losses.Loss:
    """Returns the loss of digits and logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(
    model: keras.Model, part: Part, epochs: int, rate: float = 1e-3
) -> None:
    """Trains on labels; one model may be trained on."""
    if not model.compiled:
        model.compile(keras.optimizers.Adam(rate), crossentropy())
    model.fit(part.x, part.y, batch_size=64, epochs=epochs, verbose=0)


def accuracy(model: keras.Model, part: Part) -> float:
    """Returns the share of digits that are recognised."""
    answers = np.asarray(model(part.x)).argmax(axis=1)
    return float(np.mean(answers == part.y))
