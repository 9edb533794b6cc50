"""The base of distillation losses that know weights and masks."""

import keras
from keras import ops

from keras_moe.distillation._named_outputs import LayerKey
from keras_moe.losses import weighted_mean
from keras_moe.types import Tensor


class WeightedDistillationLoss(keras.distillation.DistillationLoss):
    """A distillation loss with a value for each example or token.

    Keras's own distillation losses give one number for a batch, in which
    padding and the weights of examples are lost. A subclass of this one
    implements `compute_values`, and `is_counted` if it leaves values out; the
    weighted mean over what counts is taken here.

    A loss compares the models' logits. To compare hidden states instead, set
    `teacher_layer` and `student_layer` in the constructor.

    Attributes:
        teacher_layer: the number of a decoder layer, counted from 1, of a
            `SwitchTransformer`; or the name of a layer of a Functional or
            Sequential model. `None` for the logits.
        student_layer: the same of the student.

    Example:

    >>> class LogitDistance(keras_moe.distillation.WeightedDistillationLoss):
    ...     def compute_values(
    ...         self, teacher_outputs, student_outputs, mask=None, labelled=None
    ...     ):
    ...         difference = teacher_outputs - student_outputs
    ...         return keras.ops.mean(keras.ops.square(difference), axis=-1)
    >>> teacher, student = np.array([[2.0], [5.0]]), np.array([[1.0], [3.0]])
    >>> weights = np.array([1.0, 0.5])
    >>> loss = LogitDistance()
    >>> float(loss.compute_loss(teacher, student, sample_weight=weights))
    1.5
    """

    teacher_layer: LayerKey | None = None
    student_layer: LayerKey | None = None

    def compute_values(
        self,
        teacher_outputs: Tensor,
        student_outputs: Tensor,
        mask: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> Tensor:
        """Returns a value for each example or token.

        Args:
            teacher_outputs: `[batch, length, ...]`, or `[batch, ...]` for
                models without a length.
            student_outputs: as the teacher's.
            mask: bool `[batch, length]`, false for padding. A value under
                padding may be anything; its gradient must be a number.
            labelled: bool `[batch]`, whether the example's label is known to
                be right; `None` if that is not known of any.

        Returns:
            float32 `[batch, length]`, or `[batch]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `compute_values`."
        )

    def is_counted(self, teacher_outputs: Tensor) -> Tensor | None:
        """Returns which values count: bool of their shape, `None` for all."""
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
        """Returns the weighted mean over the values that count.

        Args:
            teacher_outputs: as for `compute_values`.
            student_outputs: as for `compute_values`.
            mask: as for `compute_values`.
            sample_weight: `[batch]` or `[batch, length]`.
            labelled: as for `compute_values`.
            **kwargs: unused.

        Returns:
            A float32 scalar, see `keras_moe.losses.weighted_mean`.

        Raises:
            ValueError: if `compute_values` returned one value for the batch,
                or values of other axes than the mask has.
        """
        values = self.compute_values(
            teacher_outputs, student_outputs, mask, labelled
        )
        axes = len(values.shape)
        if not axes or (mask is not None and axes != len(mask.shape)):
            wanted = "" if mask is None else f", {tuple(mask.shape)}"
            raise ValueError(
                "`compute_values` must return a value for each example or "
                f"token{wanted}. Received: shape={tuple(values.shape)} of "
                f"{type(self).__name__}."
            )
        counted = self.is_counted(teacher_outputs)
        if counted is not None:
            mask = counted if mask is None else ops.logical_and(mask, counted)
        return weighted_mean(values, mask, sample_weight)
