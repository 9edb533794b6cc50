"""The teacher's hidden states as targets of the student's."""

import keras

from keras_moe.distillation._named_outputs import LayerKey
from keras_moe.distillation._named_outputs import state_size
from keras_moe.distillation._weighted_distillation_loss import (
    WeightedDistillationLoss,
)
from keras_moe.losses import hidden_state_distance
from keras_moe.losses._hidden_state_distance import HIDDEN_STATE_DISTANCES
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_choice


@register
class HiddenStateDistillation(WeightedDistillationLoss):
    """Distance of a student's hidden state, projected, from its teacher's.

    The projection is trained with the student and is no part of what is saved
    as the student.

    Sources: [FitNets, Romero et al., 2014](https://arxiv.org/abs/1412.6550),
    section 2.2, for the projection; see `hidden_state_distance` for the
    distances.

    Args:
        teacher_layer: the number of a decoder layer, counted from 1, of a
            `SwitchTransformer`; or the name of a layer of a Functional or
            Sequential model.
        student_layer: such a layer of the student.
        distance: `"mse"` or `"cosine"`.
        projection: whether the student's state is projected; without it, both
            states must have the same size.

    Raises:
        ValueError: if `distance` is unknown, or, when the distiller is made,
            if there are no such layers or their sizes differ.

    Example:

    >>> loss = keras_moe.distillation.HiddenStateDistillation(
    ...     teacher_layer=6, student_layer=2
    ... )
    >>> loss.get_config()["distance"]
    'mse'
    """

    teacher_layer: LayerKey
    student_layer: LayerKey

    def __init__(
        self,
        teacher_layer: LayerKey,
        student_layer: LayerKey,
        distance: str = "mse",
        projection: bool = True,
    ):
        check_choice(HIDDEN_STATE_DISTANCES, distance=distance)
        self.teacher_layer = teacher_layer
        self.student_layer = student_layer
        self.distance = distance
        self.projection = projection
        self.projection_layer: keras.layers.Layer | None = None

    def validate_model_compatibility(
        self, teacher: keras.Model, student: keras.Model
    ) -> None:
        """Checks the layers and makes the projection between them."""
        given = state_size(teacher, self.teacher_layer, "teacher")
        made = state_size(student, self.student_layer, "student")
        if not self.projection:
            if given != made:
                raise ValueError(
                    "Without a `projection` the hidden states must have the "
                    f"same size. Received: {given} of the teacher, {made} of "
                    "the student."
                )
            return
        self.projection_layer = keras.layers.Dense(
            given, use_bias=False, dtype="float32", name="projection"
        )
        self.projection_layer.build((None, made))

    def compute_values(
        self,
        teacher_outputs: Tensor,
        student_outputs: Tensor,
        mask: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> Tensor:
        if self.projection_layer is not None:
            student_outputs = self.projection_layer(student_outputs)
        return hidden_state_distance(
            teacher_outputs, student_outputs, mask, self.distance
        )

    def get_config(self) -> Config:
        """Returns the arguments."""
        return {
            "teacher_layer": self.teacher_layer,
            "student_layer": self.student_layer,
            "distance": self.distance,
            "projection": self.projection,
        }

    @classmethod
    def from_config(cls, config: Config) -> "HiddenStateDistillation":
        """Rebuilds the loss from `get_config`."""
        return cls(**config)
