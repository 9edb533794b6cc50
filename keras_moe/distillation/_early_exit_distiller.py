"""Training of a student of many exits under a teacher."""

from typing import Any

import keras
from keras import ops

from keras_moe.distillation._forward import OUTPUT
from keras_moe.distillation._forward import LayerKey
from keras_moe.distillation._forward import Outputs
from keras_moe.distillation._loss_list import Batch
from keras_moe.distillation._loss_list import distillation_loss_of
from keras_moe.distillation._sparse_to_dense_distiller import (
    SparseToDenseDistiller,
)
from keras_moe.distillation._token_distillation import TokenDistillation
from keras_moe.losses import exit_layers
from keras_moe.losses import exit_weights
from keras_moe.types import Tensor


class EarlyExitDistiller(SparseToDenseDistiller):
    """Trains every exit of a student: on labels, teacher and last exit.

    Each exit has the losses that a `SparseToDenseDistiller` has for the last
    layer, and what counts is their mean, weighted over the exits. Below the
    last exit, a share of what the teacher says is said by the last exit
    instead (through which no gradient flows): what an early layer has to
    agree with, if decoding is to stop there, is the student's own last layer.
    Losses of hidden states count once.

    Sources: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061),
    section 4.1, for the weights of exits; [Zhang et al.,
    2019](https://arxiv.org/abs/1905.08094) for the last exit as a teacher.

    Args:
        teacher: as for `SparseToDenseDistiller`.
        student: a `keras_moe.models.SwitchTransformer`, or a model with its
            `exit_states` and `logits`, and `config.num_decoder_layers`.
        distillation_losses: as for `SparseToDenseDistiller`.
        distillation_loss_weights: as for `SparseToDenseDistiller`.
        student_loss_weight: as for `SparseToDenseDistiller`.
        last_exit_weight: which share of the teacher's part is the last
            exit's, for the exits below, from 0 to 1.
        min_exit_layer: the lowest exit, counted from 1.
        exit_interval: distance from one exit to the next.
        weighting: how much each exit counts, see
            `keras_moe.losses.exit_weights`.
        early_exit_scale: factor of all weights but the last.
        pad_id: as for `SparseToDenseDistiller`.
        name: name of the model.

    Raises:
        ValueError: as `SparseToDenseDistiller`, or if the student has no such
            exits.

    Example:

    >>> teacher = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> student = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> distiller = keras_moe.distillation.EarlyExitDistiller(teacher, student)
    >>> distiller.exits
    (1, 2)
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        distillation_losses: Any = None,
        distillation_loss_weights: Any = None,
        student_loss_weight: float = 0.75,
        last_exit_weight: float = 0.5,
        min_exit_layer: int = 1,
        exit_interval: int = 1,
        weighting: str = "linear",
        early_exit_scale: float = 1.0,
        pad_id: int | None = None,
        name: str = "early_exit_distiller",
    ):
        if not 0 <= last_exit_weight <= 1:
            raise ValueError(
                "`last_exit_weight` must be in [0, 1]. Received: "
                f"last_exit_weight={last_exit_weight}."
            )
        if not hasattr(student, "exit_states"):
            raise ValueError(
                "`student` must have exits: `exit_states` and `logits`, as "
                "`SwitchTransformer` has. Received: "
                f"{type(student).__name__}."
            )
        exits = exit_layers(
            student.config.num_decoder_layers, min_exit_layer, exit_interval
        )
        # Keras's constructor asks which layers are needed.
        self._exits_needed = exits
        super().__init__(
            teacher,
            student,
            distillation_losses,
            distillation_loss_weights,
            student_loss_weight,
            pad_id,
            name,
        )
        self.exits = exits
        self.exit_weights = exit_weights(exits, weighting, early_exit_scale)
        self.last_exit_weight = last_exit_weight
        self._agreement = TokenDistillation()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_exits_needed":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _layers_needed(self, role: str) -> list[LayerKey]:
        layers = super()._layers_needed(role)
        if role == "student":
            layers = list(dict.fromkeys([*layers, *self._exits_needed]))
        return layers

    def compute_student_loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Returns the mean over exits of the loss against the labels."""

        @keras.remat
        def exit_loss(state: Tensor) -> Tensor:
            return self._loss_of_labels(self.student.logits(state), batch)

        total = self.exit_weights[-1] * self._loss_of_labels(
            outputs[OUTPUT], batch
        )
        for exit_layer, weight in self._early_exits():
            total = total + weight * exit_loss(outputs[str(exit_layer)])
        return total

    def compute_distillation_loss(
        self, teacher: Outputs, student: Outputs, batch: Batch
    ) -> Tensor:
        """Returns the mean over exits, plus the losses of hidden states."""
        last = ops.stop_gradient(student[OUTPUT])
        share = self.last_exit_weight

        @keras.remat
        def exit_loss(state: Tensor) -> Tensor:
            logits = self.student.logits(state)
            total = (1.0 - share) * self._of_outputs(teacher, logits, batch)
            if share:
                total = total + share * distillation_loss_of(
                    self._agreement, last, logits, batch
                )
            return total

        total = self.exit_weights[-1] * self._of_outputs(
            teacher, student[OUTPUT], batch
        )
        for exit_layer, weight in self._early_exits():
            total = total + weight * exit_loss(student[str(exit_layer)])
        return total + self._of_states(teacher, student, batch)

    def _early_exits(self) -> list[tuple[int, float]]:
        """Returns the exits below the last layer, and their weights."""
        return list(zip(self.exits, self.exit_weights, strict=True))[:-1]
