"""The distillation losses of a distiller, and what they are given."""

import math
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_moe.distillation._forward import OUTPUT
from keras_moe.distillation._forward import LayerKey
from keras_moe.distillation._per_token_loss import PerTokenLoss
from keras_moe.distillation._token_distillation import TokenDistillation
from keras_moe.types import Tensor


class Batch(NamedTuple):
    """What is known of a batch, beside the outputs of the models.

    Attributes:
        labels: what `fit` was given as `y`, or `None`.
        mask: bool `[batch, length]`, false for padding, or `None`.
        sample_weight: what `fit` was given, or `None`.
        labelled: bool `[batch]`, or `None`.
    """

    labels: Any
    mask: Tensor | None
    sample_weight: Any
    labelled: Tensor | None


def distillation_loss_of(
    loss: Any, teacher_outputs: Tensor, student_outputs: Tensor, batch: Batch
) -> Tensor:
    """Returns one distillation loss, as far as it knows of weights.

    Args:
        loss: a `keras.distillation` loss.
        teacher_outputs: the teacher's.
        student_outputs: the student's.
        batch: the batch.

    Raises:
        ValueError: if there are weights that it would not see.
    """
    if isinstance(loss, PerTokenLoss):
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


def layer_of(loss: Any, role: str) -> LayerKey | None:
    """Returns the layer that a loss looks at; Keras's losses name theirs."""
    own = getattr(loss, f"{role}_layer", None)
    return getattr(loss, f"{role}_layer_name", None) if own is None else own


def output_key(loss: Any, role: str) -> str:
    """Returns under which name a model's forward pass gives what it needs."""
    layer = layer_of(loss, role)
    return OUTPUT if layer is None else str(layer)


def as_lists(losses: Any, weights: Any) -> tuple[list, list[float]]:
    """Returns a list of losses, and the weight of each.

    Args:
        losses: one, several, or `None` for the default.
        weights: one, several, or `None` for 1.

    Raises:
        ValueError: if one is no loss, or the numbers differ.
    """
    if losses is None:
        losses = TokenDistillation()
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
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(
                "`distillation_loss_weights` must be numbers of at least 0. "
                f"Received: {weight!r}."
            )
    return list(losses), [float(weight) for weight in weights]
