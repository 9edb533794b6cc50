"""The teacher's distribution as the target of every token."""

from keras import ops

from keras_moe.distillation._weighted_distillation_loss import (
    WeightedDistillationLoss,
)
from keras_moe.losses import token_kl_divergence
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_positive
from keras_moe.validation import check_rate


@register
class TokenDistillation(WeightedDistillationLoss):
    """KL divergence of teacher and student, token by token.

    `T^2 * KL(softmax(teacher / T) || softmax(student / T))` on logits, in the
    log domain and in float32.

    With `min_confidence`, tokens of which the teacher is less sure are left
    out: where the teacher errs, it is often in doubt. This filter is the
    baseline for `StudentLabelMixing`.

    Source: [Hinton et al., 2015](https://arxiv.org/abs/1503.02531), section 2.

    Args:
        temperature: T, greater than 0.
        min_confidence: probability that the teacher's likeliest token must
            have at least, at temperature 1.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> loss = keras_moe.distillation.TokenDistillation(temperature=2.0)
    >>> teacher, student = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    >>> round(float(loss.compute_loss(teacher, student)), 4)
    0.5232
    """

    def __init__(self, temperature: float = 1.0, min_confidence: float = 0.0):
        check_positive(temperature=temperature)
        check_rate(min_confidence=min_confidence)
        self.temperature = temperature
        self.min_confidence = min_confidence

    def compute_values(
        self,
        teacher_outputs: Tensor,
        student_outputs: Tensor,
        mask: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> Tensor:
        return token_kl_divergence(
            teacher_outputs, student_outputs, mask, self.temperature
        )

    def is_counted(self, teacher_outputs: Tensor) -> Tensor | None:
        if not self.min_confidence:
            return None
        logits = ops.cast(teacher_outputs, "float32")
        greatest = ops.max(ops.softmax(logits, axis=-1), axis=-1)
        return greatest >= self.min_confidence

    def get_config(self) -> Config:
        """Returns the arguments."""
        return {
            "temperature": self.temperature,
            "min_confidence": self.min_confidence,
        }

    @classmethod
    def from_config(cls, config: Config) -> "TokenDistillation":
        """Rebuilds the loss from `get_config`."""
        return cls(**config)
