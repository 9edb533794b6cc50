"""The state that a training makes in its first step, made before it."""

from typing import Any

import keras

from keras_moe.keras_internals import build_from_batch
from keras_moe.keras_internals import compile_loss
from keras_moe.keras_internals import compile_metrics
from keras_moe.weights._named_state import optimizer_of


def build_state(model: keras.Model, batch: Any) -> None:
    """Makes the variables that training would make in its first step.

    Weights, the optimizer's variables and those of metrics then exist, so that
    a checkpoint can be restored to them. No step is made.

    Args:
        model: compiled.
        batch: inputs, labels and sample weights, as for `model.fit`: tensors,
            arrays or `tf.TensorSpec`s. Only shapes and dtypes are looked at.

    Example:

    >>> model = keras.Sequential([keras.layers.Dense(2)])
    >>> model.compile("adam", "mse", metrics=["mae"])
    >>> batch = np.ones([1, 3]), np.ones([1, 2])
    >>> keras_moe.training.build_state(model, batch)
    >>> len(model.weights), model.optimizer.built
    (2, True)
    """
    build_from_batch(model, batch)
    build_optimizer(model)


def build_optimizer(model: keras.Model) -> None:
    """Makes the variables of a model's optimizer, where it has none yet.

    Args:
        model: built.
    """
    optimizer = optimizer_of(model)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def has_all_metrics(model: keras.Model) -> bool:
    """Says whether the metrics of `compile` have their variables yet.

    Args:
        model: built.
    """
    parts = (compile_metrics(model), compile_loss(model))
    return all(part is None or part.built for part in parts)
