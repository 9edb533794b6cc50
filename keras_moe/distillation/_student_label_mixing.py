"""Distillation from a teacher that is not always right."""

from keras import ops

from keras_moe.distillation._weighted_distillation_loss import (
    WeightedDistillationLoss,
)
from keras_moe.distillation.teachers._teacher_accuracy import TeacherAccuracy
from keras_moe.losses._student_mixing import student_mixing_loss
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class StudentLabelMixing(WeightedDistillationLoss):
    """SLaM: the student is trained to agree as often as the teacher is right.

    See `keras_moe.losses.student_mixing_loss`. For examples whose label is
    known to be right (`"labelled"` among the inputs of the distiller) the
    teacher is taken to be right, too.

    Source: SLaM, [Kontonis et al., 2023](https://arxiv.org/abs/2302.03806).

    Args:
        accuracy: how likely it is that the teacher is right.
        num_candidates: among how many of the teacher's likeliest tokens the
            right one is looked for; a smaller vocabulary counts whole.

    Raises:
        ValueError: if `accuracy` is no `TeacherAccuracy`, or `num_candidates`
            not positive.

    Example:

    >>> accuracy = keras_moe.distillation.TeacherAccuracy([0.0], [0.9])
    >>> loss = keras_moe.distillation.StudentLabelMixing(
    ...     accuracy, num_candidates=2
    ... )
    >>> teacher, student = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    >>> round(float(loss.compute_loss(teacher, student)), 4)
    0.6931
    """

    def __init__(self, accuracy: TeacherAccuracy, num_candidates: int = 5):
        if not isinstance(accuracy, TeacherAccuracy):
            raise ValueError(
                "`accuracy` must be a `keras_moe.distillation."
                f"TeacherAccuracy`. Received: accuracy={accuracy!r}."
            )
        check_size(num_candidates=num_candidates)
        self.accuracy = accuracy
        self.num_candidates = num_candidates

    def compute_values(
        self,
        teacher_outputs: Tensor,
        student_outputs: Tensor,
        mask: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> Tensor:
        accuracy = self.accuracy(teacher_outputs)
        if labelled is not None:
            known = ops.cast(labelled, "bool")
            for _ in range(len(accuracy.shape) - len(known.shape)):
                known = ops.expand_dims(known, -1)
            accuracy = ops.where(known, 1.0, accuracy)
        return student_mixing_loss(
            teacher_outputs,
            student_outputs,
            accuracy,
            min(self.num_candidates, teacher_outputs.shape[-1]),
            mask,
        )

    def get_config(self) -> Config:
        """Returns the arguments, with the steps of the accuracy."""
        return {
            "margins": list(self.accuracy.margins),
            "accuracies": list(self.accuracy.accuracies),
            "num_candidates": self.num_candidates,
        }

    @classmethod
    def from_config(cls, config: Config) -> "StudentLabelMixing":
        """Rebuilds the loss from `get_config`."""
        accuracy = TeacherAccuracy(config["margins"], config["accuracies"])
        return cls(accuracy, config["num_candidates"])
