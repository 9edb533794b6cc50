"""The small network that features are selected with."""

from collections.abc import Sequence

import keras
import numpy as np

from benchmarks.feature_selection.data import Part
from keras_moe.layers import SequentialAttention

_HIDDEN, _BATCH, _AT_ONCE = 64, 128, 25


def network(
    first: Sequence[keras.layers.Layer], seed: int, **hidden
) -> keras.Model:
    """Returns a network of one hidden layer.

    Args:
        first: layers before that.
        seed: of weights and batches.
        **hidden: options of the hidden layer.
    """
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            *first,
            keras.layers.Dense(_HIDDEN, activation="relu", **hidden),
            keras.layers.Dense(10),
        ]
    )


def train(
    model: keras.Model, part: Part, learning_rate: float, steps: int
) -> None:
    """Trains with Adam, for so many steps or a few more.

    Args:
        model: the network.
        part: the examples, scaled.
        learning_rate: of Adam.
        steps: number of updates.
    """
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=_AT_ONCE,
    )
    whole = len(part.y) // _BATCH
    model.fit(
        part.x[: whole * _BATCH],
        part.y[: whole * _BATCH],
        batch_size=_BATCH,
        epochs=-(-steps // whole),
        verbose=0,
    )


def sequential_attention(
    part: Part, k: int, learning_rate: float, steps: int, seed: int
) -> list[int]:
    """Returns the columns that are picked, the first first.

    Args:
        part: the examples, scaled.
        k: how many columns.
        learning_rate: of Adam.
        steps: number of updates.
        seed: of the network.
    """
    layer = SequentialAttention(k, total_steps=steps)
    layer.adapt(part.x)
    train(network([layer], seed), part, learning_rate, steps)
    return layer.selected()


def accuracy(columns: Sequence[int], train: Part, part: Part) -> float:
    """Returns how often a fresh model is right, which has these columns alone.

    A support vector machine: of one selection it makes one figure.

    Args:
        columns: which are kept.
        train: what it learns from.
        part: what it is measured on.
    """
    from sklearn.svm import SVC

    model = SVC(C=10.0).fit(train.x[:, columns], train.y)
    return float(np.mean(model.predict(part.x[:, columns]) == part.y))
