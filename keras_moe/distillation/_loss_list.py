"""The distillation losses of a distiller, checked and summed."""

import math
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_moe.distillation._batch import Batch
from keras_moe.distillation._checks import is_number
from keras_moe.distillation._named_outputs import LOGITS
from keras_moe.distillation._named_outputs import LayerKey
from keras_moe.distillation._named_outputs import NamedOutputs
from keras_moe.distillation._named_outputs import hidden_state
from keras_moe.distillation._weighted_distillation_loss import (
    WeightedDistillationLoss,
)
from keras_moe.types import Tensor


def as_lists(losses: Any, weights: Any) -> tuple[list, list[float]]:
    """Returns a list of losses, and the weight of each.

    Args:
        losses: one or several.
        weights: one, several, or `None` for 1.

    Raises:
        ValueError: if one is no loss, or the numbers differ.
    """
    if not isinstance(losses, list | tuple):
        losses = [losses]
    if weights is None:
        weights = [1.0] * len(losses)
    elif not isinstance(weights, list | tuple):
        weights = [weights]
    for loss in losses:
        if not isinstance(loss, keras.distillation.DistillationLoss):
            raise ValueError(
                "`distillation_losses` must be losses of "
                "`keras_moe.distillation` or `keras.distillation`. Received: "
                f"{loss!r}."
            )
    if not losses or len(weights) != len(losses):
        raise ValueError(
            "There must be a distillation loss, and a weight for each. "
            f"Received: {len(losses)} losses, {len(weights)} weights."
        )
    for weight in weights:
        if not is_number(weight) or not 0 <= weight < math.inf:
            raise ValueError(
                "`distillation_loss_weights` must be numbers of at least 0. "
                f"Received: {weight!r}."
            )
    return list(losses), [float(weight) for weight in weights]


def layer_of(loss: Any, role: str) -> LayerKey | None:
    """Returns the layer whose output a loss compares; `None` for the logits."""
    own = getattr(loss, f"{role}_layer", None)
    # Keras's own losses call the attribute `teacher_layer_name`.
    return getattr(loss, f"{role}_layer_name", None) if own is None else own


def layers_of(losses: Iterable[Any], role: str) -> list[LayerKey]:
    """Returns the layers whose outputs the losses compare, each once."""
    layers = [layer_of(loss, role) for loss in losses]
    return list(dict.fromkeys(layer for layer in layers if layer is not None))


def weighted_sum(
    losses: Sequence[tuple[Any, float]],
    teacher: NamedOutputs,
    student: NamedOutputs,
    batch: Batch,
) -> Tensor:
    """Returns the sum of losses times their weights, a float32 scalar.

    Args:
        losses: losses and their weights.
        teacher: the teacher's outputs.
        student: the student's outputs.
        batch: the batch.

    Raises:
        ValueError: if there are sample weights or padding, and a loss would
            not see them.
    """
    total = ops.zeros((), "float32")
    for loss, weight in losses:
        value = _loss_of(
            loss,
            teacher[_output_name(loss, "teacher")],
            student[_output_name(loss, "student")],
            batch,
        )
        total = total + weight * value
    return total


def _output_name(loss: Any, role: str) -> str:
    layer = layer_of(loss, role)
    return LOGITS if layer is None else hidden_state(layer)


def _loss_of(
    loss: Any, teacher_outputs: Tensor, student_outputs: Tensor, batch: Batch
) -> Tensor:
    if isinstance(loss, WeightedDistillationLoss):
        return loss.compute_loss(
            teacher_outputs,
            student_outputs,
            mask=batch.mask,
            sample_weight=batch.sample_weight,
            labelled=batch.labelled,
        )
    if batch.sample_weight is not None or batch.mask is not None:
        raise ValueError(
            "Sample weights and padding must be honoured by each loss of "
            "`distillation_losses`. Those of `keras_moe.distillation` do; "
            f"received: {type(loss).__name__}."
        )
    loss.validate_outputs(teacher_outputs, student_outputs)
    value = loss.compute_loss(teacher_outputs, student_outputs)
    return ops.cast(value, "float32")
