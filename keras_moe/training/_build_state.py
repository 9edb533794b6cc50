"""Makes all that a training would make in its first step, without a step."""

from typing import Any

import keras

from keras_moe.keras_internals import build_from_batch
from keras_moe.keras_internals import compile_loss
from keras_moe.keras_internals import compile_metrics
from keras_moe.weights._named_state import optimizer_of


def build_state(model: keras.Model, batch: Any) -> None:
    """Makes all that training would make in its first step, without a step.

    Weights, the optimizer's variables and those of metrics then exist, so that
    a checkpoint has something to be restored to.

    Args:
        model: compiled.
        batch: inputs, labels and weights, as for `model.fit`.
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
