"""Training of a student of many exits under a teacher."""

from typing import Any

import keras
from keras import ops

from keras_moe.distillation._batch import Batch
from keras_moe.distillation._checks import check_share
from keras_moe.distillation._input_perturbation import InputPerturbation
from keras_moe.distillation._loss_list import layer_of
from keras_moe.distillation._loss_list import weighted_sum
from keras_moe.distillation._named_outputs import LOGITS
from keras_moe.distillation._named_outputs import NamedOutputs
from keras_moe.distillation._named_outputs import hidden_state
from keras_moe.distillation._sparse_to_dense_distiller import (
    SparseToDenseDistiller,
)
from keras_moe.distillation._token_distillation import TokenDistillation
from keras_moe.generation import Exiting
from keras_moe.losses import exit_layers
from keras_moe.losses import exit_weights
from keras_moe.types import Tensor
from keras_moe.validation import check_contract


class EarlyExitDistiller(SparseToDenseDistiller):
    """Trains every exit of a student: on labels, teacher and last exit.

    Each exit has the losses that a `SparseToDenseDistiller` has for the last
    layer; their mean, weighted over the exits, is minimised. Below the last
    exit, the student's own last layer takes over a share of the teacher's
    part (no gradient flows through it): decoding that stops at an early layer
    should give the answer of the last one. Losses of hidden states count once.

    Sources: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061),
    section 4.1, for the weights of exits; [Zhang et al.,
    2019](https://arxiv.org/abs/1905.08094) for the last exit as a teacher.

    Args:
        teacher: as for `SparseToDenseDistiller`.
        student: a `keras_moe.generation.Exiting`, such as
            `keras_moe.models.SwitchTransformer`.
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
        input_perturbation: as for `SparseToDenseDistiller`.

    Raises:
        ValueError: as `SparseToDenseDistiller`, or if the student has no such
            exits, or a single decoder layer.

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
        *,
        input_perturbation: InputPerturbation | None = None,
    ):
        check_share(last_exit_weight=last_exit_weight)
        check_contract(Exiting, student=student)
        if student.config.num_decoder_layers < 2:
            raise ValueError(
                "`student` must have at least 2 decoder layers to exit early; "
                "`SparseToDenseDistiller` is for others. Received: "
                f"num_decoder_layers={student.config.num_decoder_layers}."
            )
        exits = exit_layers(
            student.config.num_decoder_layers, min_exit_layer, exit_interval
        )
        weights = exit_weights(exits, weighting, early_exit_scale)
        super().__init__(
            teacher,
            student,
            distillation_losses,
            distillation_loss_weights,
            student_loss_weight,
            pad_id,
            name,
            input_perturbation=input_perturbation,
            student_layers=exits,
        )
        self.exits = exits
        self.exit_weights = weights
        self.last_exit_weight = float(last_exit_weight)

    def compute_student_loss(
        self, outputs: NamedOutputs, batch: Batch
    ) -> Tensor:
        """Returns the mean over exits of the loss against the labels."""

        @keras.remat
        def exit_loss(state: Tensor) -> Tensor:
            return self.loss_of_labels(self.student.logits(state), batch)

        total = self.exit_weights[-1] * self.loss_of_labels(
            outputs[LOGITS], batch
        )
        for exit_layer, weight in self._early_exits():
            total = total + weight * exit_loss(
                outputs[hidden_state(exit_layer)]
            )
        return total

    def compute_distillation_loss(
        self, teacher: NamedOutputs, student: NamedOutputs, batch: Batch
    ) -> Tensor:
        """Returns the mean over exits, plus the losses of hidden states."""
        of_logits: list[tuple[Any, float]] = []
        of_states: list[tuple[Any, float]] = []
        for loss, weight in self.weighted_losses():
            layer = layer_of(loss, "student")
            (of_logits if layer is None else of_states).append((loss, weight))
        last = {LOGITS: ops.stop_gradient(student[LOGITS])}
        agreement = [(TokenDistillation(), self.last_exit_weight)]

        @keras.remat
        def exit_loss(state: Tensor) -> Tensor:
            logits = {LOGITS: self.student.logits(state)}
            total = (1.0 - self.last_exit_weight) * weighted_sum(
                of_logits, teacher, logits, batch
            )
            if self.last_exit_weight:
                total = total + weighted_sum(agreement, last, logits, batch)
            return total

        total = self.exit_weights[-1] * weighted_sum(
            of_logits, teacher, student, batch
        )
        for exit_layer, weight in self._early_exits():
            total = total + weight * exit_loss(
                student[hidden_state(exit_layer)]
            )
        return total + weighted_sum(of_states, teacher, student, batch)

    def _early_exits(self) -> list[tuple[int, float]]:
        """Returns the exits below the last layer, and their weights."""
        return list(zip(self.exits, self.exit_weights, strict=True))[:-1]
