"""A teacher whose logits were computed before and lie in the batch."""

from typing import Any

import keras

from keras_moe.distillation._batch import TEACHER_LOG_PROBABILITIES
from keras_moe.distillation._batch import TEACHER_TOKEN_IDS
from keras_moe.distillation._batch import own_inputs
from keras_moe.ops import expand_logits
from keras_moe.ops._top_k_logits import TAILS
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_size


@register
class CachedTeacher(keras.Model):
    """Gives the logits that `write_teacher_logits` kept, out of the batch.

    A cached teacher has no weights and costs next to nothing: a student can be
    trained many times for one pass of the real teacher. The probability that
    the kept tokens leave over has to be guessed.

    Args:
        vocabulary_size: number of logits.
        tail: what becomes of the probability left over: `"uniform"` spreads it
            evenly over the other tokens, `"drop"` gives it up.
        name: name of the model.

    Call arguments:
        inputs: a dictionary with `"teacher_token_ids"`, int `(batch, length,
            k)`, and `"teacher_log_probabilities"`, `(batch, length, k)`.
        training: unused.

    Output shape:
        float32 `(batch, length, vocabulary_size)`.

    Raises:
        ValueError: if an argument is out of its range, or the inputs lack one
            of the two entries.

    Example:

    >>> teacher = keras_moe.distillation.CachedTeacher(vocabulary_size=3)
    >>> logits = teacher({
    ...     "teacher_token_ids": np.array([[[1]]]),
    ...     "teacher_log_probabilities": np.log([[[0.6]]]),
    ... })
    >>> print(np.exp(logits).round(4))
    [[[0.2 0.6 0.2]]]
    """

    def __init__(
        self,
        vocabulary_size: int,
        tail: str = "uniform",
        name: str = "cached_teacher",
    ):
        check_size(vocabulary_size=vocabulary_size)
        check_choice(TAILS, tail=tail)
        # Log-probabilities must not be rounded to a policy's dtype.
        super().__init__(name=name, dtype="float32")
        self.vocabulary_size = vocabulary_size
        self.tail = tail
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        names = (TEACHER_TOKEN_IDS, TEACHER_LOG_PROBABILITIES)
        if not isinstance(inputs, dict) or not set(names) <= set(inputs):
            raise ValueError(
                f"The inputs must hold {names}, as those of "
                "`read_teacher_logits` do. Received: "
                f"{sorted(inputs) if isinstance(inputs, dict) else inputs!r}."
            )
        return expand_logits(
            inputs[TEACHER_TOKEN_IDS],
            inputs[TEACHER_LOG_PROBABILITIES],
            self.vocabulary_size,
            self.tail,
        )

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "vocabulary_size": self.vocabulary_size,
            "tail": self.tail,
        }


def teacher_inputs(teacher: keras.Model, inputs: Any) -> Any:
    """Returns the part of a batch's inputs that a teacher reads.

    Args:
        teacher: the teacher.
        inputs: the inputs of the batch.
    """
    return inputs if isinstance(teacher, CachedTeacher) else own_inputs(inputs)
