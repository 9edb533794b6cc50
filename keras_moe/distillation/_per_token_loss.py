"""What all our distillation losses have in common."""

import keras
from keras import ops

from keras_moe.losses import weighted_mean
from keras_moe.types import Tensor


class PerTokenLoss(keras.distillation.DistillationLoss):
    """A distillation loss that knows what each token costs.

    A loss of Keras gives one number for a batch: padding and the weights of
    examples are lost in it. A subclass implements `per_token`, and
    `is_counted` if it leaves tokens out.
    """

    def per_token(
        self,
        teacher_outputs: Tensor,
        student_outputs: Tensor,
        mask: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> Tensor:
        """Returns what each token costs.

        Args:
            teacher_outputs: `[batch, length, ...]`, or without `length`.
            student_outputs: as the teacher's.
            mask: bool `[batch, length]`, false for padding.
            labelled: bool `[batch]`, whether the example's label is known to
                be right; `None` if that is not known of any.

        Returns:
            float32 `[batch, length]`, or without `length`.
        """
        raise NotImplementedError

    def is_counted(self, teacher_outputs: Tensor) -> Tensor | None:
        """Returns bool `[batch, length]`, or `None` if every token counts."""
        return None

    def compute_loss(
        self,
        teacher_outputs: Tensor,
        student_outputs: Tensor,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
        labelled: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        """Returns the weighted mean over the tokens that count.

        Args:
            teacher_outputs: as for `per_token`.
            student_outputs: as for `per_token`.
            mask: as for `per_token`.
            sample_weight: `[batch]` or `[batch, length]`.
            labelled: as for `per_token`.
            **kwargs: unused.

        Returns:
            A float32 scalar, see `keras_moe.losses.weighted_mean`.
        """
        values = self.per_token(
            teacher_outputs, student_outputs, mask, labelled
        )
        counted = self.is_counted(teacher_outputs)
        if counted is not None:
            mask = counted if mask is None else ops.logical_and(mask, counted)
        return weighted_mean(values, mask, sample_weight)
