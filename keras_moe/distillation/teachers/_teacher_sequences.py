"""A teacher's own answers, for sequence-level distillation."""

from typing import NamedTuple

import keras
import numpy as np

from keras_moe.generation import Generative
from keras_moe.generation import Strategy
from keras_moe.validation import check_contract
from keras_moe.validation import check_size


class TeacherSequences(NamedTuple):
    """A teacher's answers.

    Attributes:
        token_ids: int32 `(n, max_length)`, ended by `end_id` and padded.
        log_probability: float32 `(n,)`, the teacher's, of the whole answer.
        ended: bool `(n,)`; false where an answer was cut off at `max_length`:
            leave such answers out of the training.

    Example:

    >>> answers = keras_moe.distillation.TeacherSequences(
    ...     token_ids=np.array([[5, 1, 0], [6, 7, 8]]),
    ...     log_probability=np.array([-0.5, -2.0]),
    ...     ended=np.array([True, False]),
    ... )
    >>> answers.token_ids[answers.ended]  # labels for a student
    array([[5, 1, 0]])
    """

    token_ids: np.ndarray
    log_probability: np.ndarray
    ended: np.ndarray


def teacher_sequences(
    teacher: Generative,
    token_ids: np.ndarray,
    max_length: int,
    strategy: Strategy | None = None,
    batch_size: int = 256,
    verbose: int = 1,
) -> TeacherSequences:
    """Decodes sources with a teacher: labels for a student.

    Source: [Kim and Rush, 2016](https://arxiv.org/abs/1606.07947), section
    3.2, where the answers are found by beam search.

    Args:
        teacher: a `keras_moe.generation.Generative`, such as
            `keras_moe.models.SwitchTransformer`.
        token_ids: int `(n, source_length)`, padded.
        max_length: greatest number of tokens of an answer.
        strategy: how to decode, as for `generate`; `None` is greedy.
        batch_size: rows decoded at a time.
        verbose: 1 shows a progress bar, 0 does not.

    Returns:
        The answers, in the order of the sources.

    Raises:
        ValueError: if the teacher lacks a method, a size is not positive, or
            there are no sources.

    Example:

    >>> teacher = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> answers = keras_moe.distillation.teacher_sequences(
    ...     teacher, np.array([[5, 6, 7, 1]]), max_length=6, verbose=0
    ... )
    >>> answers.token_ids.shape
    (1, 6)
    """
    check_contract(Generative, teacher=teacher)
    check_size(max_length=max_length, batch_size=batch_size)
    token_ids = np.asarray(token_ids, dtype="int32")
    if token_ids.ndim != 2 or not len(token_ids):
        raise ValueError(
            "`token_ids` must have the shape (n, source_length), with at least "
            f"one row. Received: token_ids.shape={token_ids.shape}."
        )
    bar = keras.utils.Progbar(
        len(token_ids), unit_name="sequence", verbose=verbose, interval=0.5
    )
    answers, scores = [], []
    for start in range(0, len(token_ids), batch_size):
        rows = token_ids[start : start + batch_size]
        decoded = teacher.generate(rows, max_length, strategy=strategy)
        answers.append(np.array(decoded["token_ids"]))
        scores.append(np.array(decoded["log_probability"]))
        bar.update(start + len(rows))
    ids = np.concatenate(answers)
    ended = (ids == teacher.config.end_id).any(axis=1)
    return TeacherSequences(ids, np.concatenate(scores), ended)
