"""Private names of compiled models, and of what they are called with."""

from typing import Any

import keras
from keras.src.backend.common import masking

from keras_moe.types import Tensor


def build_from_batch(model: keras.Model, batch: Any) -> None:
    """Makes the variables that the first step on a batch would make.

    Stands for `Trainer._symbolic_build`: weights, the optimizer's variables and
    those of `compile`'s metrics and losses. Without it a checkpoint could be
    restored only after a step that trains.

    Args:
        model: compiled.
        batch: inputs, labels and weights, as for `model.fit`.
    """
    model._symbolic_build(data_batch=batch)


def compile_metrics(model: keras.Model) -> keras.metrics.Metric | None:
    """Returns Keras's holder of the metrics given to `compile`, or `None`.

    Stands for `Trainer._compile_metrics`. The public `metrics` lacks them until
    they are built.

    Args:
        model: a model whose constructor has run.
    """
    return model._compile_metrics


def compile_loss(model: keras.Model) -> Any:
    """Returns Keras's holder of the loss given to `compile`, or `None`.

    Stands for `Trainer._compile_loss`. The public `loss` is what the user gave.

    Args:
        model: compiled.
    """
    return model._compile_loss


def compute_loss(
    model: keras.Model,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any = None,
    training: bool = True,
) -> Tensor:
    """Returns the loss as the model's own training step computes it.

    Stands for `Trainer._compute_loss`, which gives `training` to a
    `compute_loss` of the user's where that takes it.

    Args:
        model: compiled.
        x: inputs.
        y: labels.
        y_pred: what the model made of the inputs.
        sample_weight: of the examples.
        training: whether the loss is that of a training.
    """
    return model._compute_loss(x, y, y_pred, sample_weight, training=training)


def get_mask(x: Tensor) -> Tensor | None:
    """Returns the mask that travels with a tensor; `None` without one.

    Stands for the attribute `_keras_mask`, by which layers hand masks on. On
    JAX, whose arrays take no attributes, Keras keeps masks in a table.

    Args:
        x: a tensor.
    """
    return masking.get_keras_mask(x)


def set_mask(x: Tensor, mask: Tensor | None) -> None:
    """Makes a mask travel with a tensor: see `get_mask`.

    Args:
        x: a tensor that Keras or TensorFlow has made.
        mask: bool; `None` takes the tensor's mask away.
    """
    masking.set_keras_mask(x, mask)


def symbolic_call(
    x: Tensor,
) -> tuple[keras.Operation, tuple[Any, ...], dict[str, Any]] | None:
    """Returns the call that a symbolic tensor is an output of.

    Stands for `KerasTensor._keras_history` and `Operation._inbound_nodes`.

    Args:
        x: any tensor.

    Returns:
        The layer or operation, and what it was called with, positionally and by
        name; `None` for tensors that are not symbolic, or come from nowhere.
    """
    history = getattr(x, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    node = history.operation._inbound_nodes[history.node_index]
    return history.operation, node.arguments.args, node.arguments.kwargs
