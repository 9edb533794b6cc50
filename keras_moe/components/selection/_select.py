"""Picks features, and measures what few of them are good for."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_moe.components.selection._encode import Encoded
from keras_moe.components.selection._encode import Inputs
from keras_moe.layers import SequentialAttention

_HIDDEN, _EMBEDDING, _AT_ONCE = 64, 8, 25
_WARMUP = 0.1


class Label(NamedTuple):
    """What is to be told from features.

    Attributes:
        train: int classes, or float32 of mean 0 and variance 1.
        evaluation: as well; -1 is a class that training did not have.
        classes: how many; 0 for numbers.
    """

    train: np.ndarray
    evaluation: np.ndarray
    classes: int

    @property
    def metric(self) -> str:
        """What is measured."""
        return "accuracy" if self.classes else "r2"


class Selection(NamedTuple):
    """What was picked, and what that is good for.

    Attributes:
        names: the first first.
        curve: number of features, and what fresh models reach with them.
        of_all: what one reaches with all features.
    """

    names: list[str]
    curve: list[tuple[int, float]]
    of_all: float


def select(
    encoded: Encoded, label: Label, settings: Mapping[str, Any]
) -> Selection:
    """Picks features with one training, and trains fresh models with them.

    Args:
        encoded: the features.
        label: what is to be told.
        settings: of `FeatureSelector`.

    Raises:
        ValueError: if there are fewer features than are to be picked.
    """
    names = sorted(encoded.train)
    k, at_once = settings["num_features"], settings["num_per_step"]
    if k > len(names):
        raise ValueError(
            f"`num_features` must be at most the {len(names)} features that "
            f"can be picked. Received: num_features={k}; left out were "
            f"{encoded.useless}."
        )
    phases = -(-k // at_once)
    steps = int(phases * settings["steps_per_pick"] / (1 - _WARMUP)) + 2
    layer = SequentialAttention(
        k, at_once, total_steps=steps, warmup_fraction=_WARMUP
    )
    model = _network(encoded, names, label, settings, layer)
    _train(model, encoded.train, names, label, steps, settings)
    picked = layer.selected()

    def measure(kept: Sequence[str]) -> float:
        fresh = _network(encoded, kept, label, settings)
        steps = settings["fresh_steps"]
        _train(fresh, encoded.train, kept, label, steps, settings)
        return _measure(fresh, encoded.evaluation, kept, label)

    curve = [(n, measure(picked[:n])) for n in _numbers(k)]
    return Selection(picked, curve, measure(names))


def _numbers(k: int) -> list[int]:
    """Returns 1, 2, 4 and so on, and k."""
    doubled = [2**i for i in range(k.bit_length()) if 2**i < k]
    return [*doubled, k]


def _network(
    encoded: Encoded,
    names: Sequence[str],
    label: Label,
    settings: Mapping[str, Any],
    selection: SequentialAttention | None = None,
) -> keras.Model:
    keras.utils.set_random_seed(settings["seed"])
    # Inputs have numbers: not all names of features can be names in a graph.
    inputs, vectors = {}, {}
    for number, name in enumerate(sorted(names)):
        size = encoded.categories.get(name)
        if size is None:
            shape = encoded.train[name].shape[1:]
            made = keras.Input(shape, name=f"feature_{number}")
            vectors[name] = made
        else:
            made = keras.Input([], dtype="int32", name=f"feature_{number}")
            vectors[name] = keras.layers.Embedding(size, _EMBEDDING)(made)
        inputs[made.name] = made
    if selection is not None:
        vectors = selection(vectors)
    parts = [vectors[name] for name in sorted(vectors)]
    x = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    x = keras.layers.Dense(_HIDDEN, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(label.classes or 1)(x))


def _named(inputs: Inputs, names: Sequence[str]) -> Inputs:
    return {
        f"feature_{i}": inputs[name] for i, name in enumerate(sorted(names))
    }


def _train(
    model: keras.Model,
    inputs: Inputs,
    names: Sequence[str],
    label: Label,
    steps: int,
    settings: Mapping[str, Any],
) -> None:
    model.compile(
        keras.optimizers.Adam(settings["learning_rate"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if label.classes
        else "mse",
        steps_per_execution=min(_AT_ONCE, steps),
    )
    data = tf.data.Dataset.from_tensor_slices(
        (_named(inputs, names), label.train)
    )
    data = data.shuffle(len(label.train), seed=settings["seed"]).repeat()
    data = data.batch(settings["batch_size"], drop_remainder=True)
    model.fit(data.take(steps), epochs=1, steps_per_epoch=steps, verbose=0)


def _measure(
    model: keras.Model, inputs: Inputs, names: Sequence[str], label: Label
) -> float:
    said = model.predict(_named(inputs, names), batch_size=1024, verbose=0)
    if label.classes:
        return float(np.mean(np.argmax(said, axis=1) == label.evaluation))
    wrong = np.mean(np.square(said[:, 0] - label.evaluation))
    return float(1.0 - wrong / np.var(label.evaluation))
