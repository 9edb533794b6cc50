"""The examples of a pool in Beam, and what models say of them."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from keras_moe.components._artifact_files import split_patterns
from keras_moe.components._record_shards import COMPRESSION
from keras_moe.components._record_shards import record_key
from keras_moe.components._record_shards import shard_of


class Row(NamedTuple):
    """An example of a pool. Rows are sorted as they are written here.

    Attributes:
        key: of the example, or nothing.
        split: that it comes from.
        record: a serialized `tf.train.Example`.
    """

    key: bytes
    split: str
    record: bytes


class ReadPool(beam.DoFn):
    """Reads a file's records, each with its shard: a hash of the key.

    Args:
        key: name of the feature that tells an example from others.
        num_shards: how many there are.
    """

    def __init__(self, key: str, num_shards: int) -> None:
        self._key = key
        self._num_shards = num_shards

    def process(self, element: tuple[str, str]) -> Iterator[tuple[int, Row]]:
        """Yields `(shard, row)` for a file of a split."""
        split, path = element
        records = tf.data.TFRecordDataset(path, COMPRESSION)
        for record in records.as_numpy_iterator():
            key = record_key(record, self._key)
            shard = shard_of(key or record, self._num_shards)
            yield shard, Row(key, split, record)


class Models:
    """SavedModels that are asked in batches, the same whoever asks.

    Args:
        paths: of their directories.
        signature_name: of the signature that takes serialized examples.
        output: of that signature, `[batch, classes]`.
        batch_size: rows of a call.
    """

    def __init__(
        self,
        paths: Sequence[str],
        signature_name: str,
        output: str,
        batch_size: int,
    ) -> None:
        self._paths = list(paths)
        self._name = signature_name
        self._output = output
        self._batch_size = batch_size
        self._models: list[Any] = []

    def load(self) -> None:
        """Loads them, once a worker."""
        self._models = [tf.saved_model.load(path) for path in self._paths]

    def answers(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Returns what each model says of all rows, `[n, classes]`.

        Raises:
            ValueError: if a model fails on a row; the message names it.
        """
        return [
            np.concatenate(
                [
                    self._call(model.signatures[self._name], rows[i:j])
                    for i, j in _spans(len(rows), self._batch_size)
                ]
            )
            for model in self._models
        ]

    def _call(self, signature: Any, rows: Sequence[Row]) -> np.ndarray:
        (name,) = signature.structured_input_signature[1]
        records = tf.constant([row.record for row in rows])
        try:
            return signature(**{name: records})[self._output].numpy()
        except tf.errors.OpError as error:
            if len(rows) > 1:
                # One by one, to find the row that it is about.
                for row in rows:
                    self._call(signature, [row])
            raise ValueError(
                f"A model must answer each example. It fails on that with the "
                f"key {rows[0].key!r}: {error.message}"
            ) from error


def _spans(size: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, step):
        yield start, min(start + step, size)


def files_of(
    examples: list[types.Artifact], splits: Iterable[str]
) -> list[tuple[str, str]]:
    """Returns the files of some splits, each with the name of its split."""
    return sorted(
        (split, file)
        for split in splits
        for pattern in split_patterns(examples, [split])
        for file in fileio.glob(pattern)
    )


def shard_name(shard: int, num_shards: int) -> str:
    """Returns the name of a shard's file."""
    return f"examples-{shard:05d}-of-{num_shards:05d}.gz"


def integer_feature(record: bytes, name: str) -> int | None:
    """Returns the one integer of a feature; `None` where there is none."""
    features = tf.train.Example.FromString(record).features.feature
    values = features[name].int64_list.value if name in features else []
    return values[0] if len(values) == 1 else None


def check_splits(examples: list[types.Artifact], splits: Iterable[str]) -> None:
    """Raises `ValueError` unless examples have all of these splits."""
    (artifact,) = examples
    known = artifact_utils.decode_split_names(artifact.split_names)
    if missing := sorted(set(splits) - set(known)):
        raise ValueError(
            f"`splits` must be splits of the examples, {known}. Received: "
            f"{missing}."
        )
