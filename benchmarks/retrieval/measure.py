"""Recall over random orders, and answers before and after saving."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_moe.ops import expected_recall
from keras_moe.ops import partial_reduce_top_k

ORDERS = 400


class Setting(NamedTuple):
    """Sizes of a reduction."""

    columns: int
    num_bins: int
    k: int
    num_per_bin: int


# One to eight a bin, bins of one size and of two, k up to what all bins hold.
# The mean over 400 orders has a standard error of 0.002 at most in each. For k
# of 5 or 10 it is 0.004 to 0.007, and noise alone would break the claim.
SETTINGS = tuple(
    Setting(*sizes)
    for sizes in (
        (16384, 256, 32, 1),
        (16384, 128, 64, 2),
        (16384, 64, 64, 4),
        (16384, 512, 32, 1),
        (16384, 1024, 32, 1),
        (4096, 110, 100, 1),
        (4096, 64, 100, 2),
        (4096, 32, 100, 4),
        (4096, 16, 100, 8),
        (5000, 400, 50, 1),
        (5000, 80, 50, 2),
        (5000, 33, 90, 3),
        (3000, 17, 32, 4),
        (3000, 17, 100, 6),
        (1000, 48, 20, 2),
        (1000, 999, 100, 1),
        (777, 200, 40, 1),
        (777, 40, 60, 3),
        (20000, 100, 100, 1),
        (20000, 2000, 100, 1),
    )
)


class RecallError(NamedTuple):
    """Measured recall held against the formula.

    Attributes:
        error: distance of the mean from the formula.
        standard_error: of the mean over the orders.
    """

    error: float
    standard_error: float


def recall_error(setting: Setting, seed: int) -> RecallError:
    """Measures recall over random orders."""
    columns, num_bins, k, num_per_bin = setting
    rng = np.random.default_rng(seed)
    recalls: list[float] = []
    for _ in range(ORDERS // 50):
        x = [rng.permutation(columns) for _ in range(50)]
        values, _ = partial_reduce_top_k(
            tf.constant(np.stack(x), tf.float32), k, num_bins, num_per_bin
        )
        recalls += np.mean(np.asarray(values) >= columns - k, axis=1).tolist()
    formula = expected_recall(columns, num_bins, k, num_per_bin)
    return RecallError(
        abs(float(np.mean(recalls)) - formula),
        float(np.std(recalls)) / ORDERS**0.5,
    )


def reload_difference(
    make: Callable[[np.ndarray, list[str]], keras.layers.Layer],
) -> float:
    """Returns the greatest difference of scores after saving a model.

    Infinite where other identifiers are found.

    Args:
        make: makes the layer of candidates and their names.
    """
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(2000, 32)).astype("float32")
    queries = rng.normal(size=(64, 32)).astype("float32")
    layer = make(rows, [f"document {i}" for i in range(len(rows))])
    model = keras.Sequential([keras.Input([32]), layer])
    before = model.predict(queries, verbose=0)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        model.save(path / "model.keras")
        model.export(path / "served", verbose=False)
        loaded = keras.models.load_model(path / "model.keras")
        served = tf.saved_model.load(str(path / "served"))
        answers = [loaded.predict(queries, verbose=0), served.serve(queries)]
    differences = [
        float(np.abs(scores - before[0]).max())
        if np.array_equal(names, before[1])
        else float("inf")
        for scores, names in answers
    ]
    return max(differences)
