"""Labels rows in Beam with what a teacher says, and how far to believe it."""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf

from keras_moe.components._record_shards import write_shard
from keras_moe.components.data._pool import Models
from keras_moe.components.data._pool import Row
from keras_moe.components.data._pool import integer_feature
from keras_moe.components.data._pool import shard_name
from keras_moe.data._answers import log_probabilities
from keras_moe.distillation import TeacherAccuracy

TEACHER_LABEL = "teacher_label"
TEACHER_PROBABILITIES = "teacher_probabilities"
TEACHER_ACCURACY = "teacher_accuracy"


class Answered(NamedTuple):
    """A row, and the teacher's log-probabilities.

    Attributes:
        row: the row.
        answer: float64 `[classes]`.
    """

    row: Row
    answer: np.ndarray


class AnswerShard(beam.DoFn):
    """Asks the teacher about the rows of a shard.

    Args:
        models: the teacher alone.
        from_logits: whether it gives logits, or probabilities.
    """

    def __init__(self, models: Models, from_logits: bool) -> None:
        self._models = models
        self._from_logits = from_logits

    def setup(self) -> None:
        """Loads the teacher, once a worker."""
        self._models.load()

    def process(
        self, element: tuple[int, Iterable[Row | None]]
    ) -> Iterator[tuple[int, list[Answered]]]:
        """Yields the shard with the answers to its rows."""
        shard, given = element
        # Sorted, so that batches and every bit of an answer are the same.
        rows = sorted(row for row in given if row is not None)
        if not rows:
            yield shard, []
            return
        (outputs,) = self._models.answers(rows)
        answers = log_probabilities(outputs, self._from_logits)
        yield shard, [*map(Answered, rows, answers)]


def labelled_answers(
    element: tuple[int, list[Answered]], splits: list[str], label_key: str
) -> Iterator[tuple[list[float], int]]:
    """Yields the answers to rows of some splits, each with its true class."""
    for row, answer in element[1]:
        if row.split in splits:
            label = integer_feature(row.record, label_key)
            if label is None:
                raise ValueError(
                    f"Each example of {splits} must have one integer "
                    f"{label_key!r}. That with the key {row.key!r} has not."
                )
            yield answer.tolist(), label


def fit_accuracy(pairs: list[tuple[list[float], int]]) -> TeacherAccuracy:
    """Fits the teacher's accuracy; the order of pairs makes no difference.

    Raises:
        ValueError: if there is no pair, or a label is no class.
    """
    if not pairs:
        raise ValueError(
            "`accuracy_splits` must hold examples. Received: none."
        )
    answers, labels = zip(*sorted(pairs), strict=True)
    return TeacherAccuracy.fit(np.array(answers, "float32"), np.array(labels))


class WriteLabelled(beam.DoFn):
    """Writes the rows of a shard with what the teacher says.

    Args:
        folders: of the splits that are labelled.
        num_shards: how many there are.
    """

    def __init__(self, folders: dict[str, str], num_shards: int) -> None:
        self._folders = folders
        self._num_shards = num_shards

    def process(
        self, element: tuple[int, list[Answered]], accuracy: TeacherAccuracy
    ) -> Iterator[int]:
        """Writes the shard; yields how many rows it has."""
        shard, answered = element
        for split, folder in self._folders.items():
            mine = [each for each in answered if each.row.split == split]
            name = shard_name(shard, self._num_shards)
            yield write_shard(folder, name, _label(mine, accuracy))


def _label(
    answered: list[Answered], accuracy: TeacherAccuracy
) -> Iterator[bytes]:
    if not answered:
        return
    answers = np.stack([each.answer for each in answered])
    believed = np.asarray(accuracy(answers.astype("float32")))
    for (row, answer), share in zip(answered, believed, strict=True):
        example = tf.train.Example.FromString(row.record)
        for name, value in {
            TEACHER_LABEL: int(answer.argmax()),
            TEACHER_PROBABILITIES: np.exp(answer),
            TEACHER_ACCURACY: [float(share)],
        }.items():
            # What an earlier teacher said is replaced.
            example.features.feature[name].CopyFrom(_feature(value))
        yield example.SerializeToString(deterministic=True)


def _feature(value: Any) -> tf.train.Feature:
    if isinstance(value, int):
        integers = tf.train.Int64List(value=[value])
        return tf.train.Feature(int64_list=integers)
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))
