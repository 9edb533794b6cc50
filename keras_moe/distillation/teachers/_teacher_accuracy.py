"""How often a teacher is right, given how sure it is."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
from keras import ops

from keras_moe.ops import softmax_margin
from keras_moe.ops._token_ids import IGNORE_ID
from keras_moe.ops._token_ids import read_ids
from keras_moe.types import Tensor


@dataclasses.dataclass(frozen=True)
class TeacherAccuracy:
    """The probability that a teacher is right, by the margin of its answer.

    A step function that never falls; `fit` finds the one that is nearest to a
    labelled sample.

    Source: SLaM, [Kontonis et al., 2023](https://arxiv.org/abs/2302.03806),
    where it is fitted by isotonic regression.

    Attributes:
        margins: the margin from which on each accuracy holds, ascending; the
            first accuracy holds for smaller margins, too.
        accuracies: the accuracies, one for each margin, in [0, 1], not falling.

    Raises:
        ValueError: if margins or accuracies are not such numbers.

    Example:

    >>> logits = np.log([[0.6, 0.4], [0.55, 0.45], [0.99, 0.01]])
    >>> accuracy = keras_moe.distillation.TeacherAccuracy.fit(
    ...     logits, labels=[1, 0, 0]
    ... )
    >>> np.array(accuracy(logits)).tolist()
    [0.5, 0.5, 1.0]
    """

    margins: Sequence[float]
    accuracies: Sequence[float]

    def __post_init__(self):
        margins = tuple(float(value) for value in self.margins)
        accuracies = tuple(float(value) for value in self.accuracies)
        object.__setattr__(self, "margins", margins)
        object.__setattr__(self, "accuracies", accuracies)
        if not margins or len(margins) != len(accuracies):
            raise ValueError(
                "`margins` and `accuracies` must be of the same, positive "
                f"number. Received: {len(margins)} and {len(accuracies)}."
            )
        if not np.isfinite([*margins, *accuracies]).all():
            raise ValueError(
                "`margins` and `accuracies` must be numbers. Received: "
                f"margins={margins}, accuracies={accuracies}."
            )
        ascending = list(margins) == sorted(set(margins))
        rising = list(accuracies) == sorted(accuracies)
        if not (ascending and rising) or not (
            0 <= accuracies[0] and accuracies[-1] <= 1
        ):
            raise ValueError(
                "`margins` must ascend, and `accuracies` not fall, within "
                f"[0, 1]. Received: margins={margins}, "
                f"accuracies={accuracies}."
            )

    @classmethod
    def fit(
        cls,
        teacher_logits: np.ndarray,
        labels: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> "TeacherAccuracy":
        """Fits the steps to labelled tokens that the teacher has not seen.

        Args:
            teacher_logits: `[..., vocabulary]`.
            labels: int `[...]`; -100 is left out, as padding is.
            mask: bool `[...]`, false for padding.

        Raises:
            ValueError: if shapes do not fit, there is no token, a logit is
                not a number, or a label is outside the vocabulary.
        """
        logits = np.asarray(ops.convert_to_numpy(teacher_logits), "float32")
        labels = np.asarray(ops.convert_to_numpy(labels))
        if logits.shape[:-1] != labels.shape:
            raise ValueError(
                "`teacher_logits` must have the shape of `labels` and an axis "
                f"for the vocabulary. Received: {logits.shape} and "
                f"{labels.shape}."
            )
        real = labels != IGNORE_ID
        if mask is not None:
            given = np.asarray(ops.convert_to_numpy(mask), bool)
            if given.shape != labels.shape:
                raise ValueError(
                    "`mask` must have the shape of `labels`. Received: "
                    f"{given.shape} and {labels.shape}."
                )
            real &= given
        logits, labels = logits[real], labels[real]
        # A label that no logit stands for would count as the teacher's error.
        read_ids(labels, logits.shape[-1])
        logits = logits.reshape(-1, logits.shape[-1])
        labels = labels.reshape(-1)
        # Minus infinity is allowed: a teacher forbids a token by it.
        wrong = int((np.isnan(logits) | (logits == np.inf)).sum())
        if not len(labels) or wrong:
            raise ValueError(
                "There must be tokens, and logits must be numbers. Received: "
                f"{len(labels)} tokens, {wrong} logits NaN or infinite."
            )
        margins = ops.convert_to_numpy(softmax_margin(logits))
        right = (logits.argmax(axis=-1) == labels).astype("float64")
        # Averaged over equal margins first: the regression could give them
        # several values.
        levels, place = np.unique(margins, return_inverse=True)
        number = np.bincount(place)
        steps = scipy.optimize.isotonic_regression(
            np.bincount(place, weights=right) / number, weights=number
        )
        first = np.asarray(steps.blocks[:-1])
        return cls(levels[first], np.clip(steps.x[first], 0.0, 1.0))

    def __call__(self, teacher_logits: Tensor) -> Tensor:
        """Returns how likely it is that the teacher is right.

        Args:
            teacher_logits: `[..., vocabulary]`.

        Returns:
            float32 `[...]`.
        """
        margin = softmax_margin(teacher_logits)
        flat = ops.reshape(margin, (-1,))
        step = ops.searchsorted(
            ops.convert_to_tensor(self.margins, dtype="float32"),
            flat,
            side="right",
        )
        accuracy = ops.take(
            ops.convert_to_tensor(self.accuracies, dtype="float32"),
            ops.maximum(step - 1, 0),
        )
        return ops.reshape(accuracy, ops.shape(margin))
