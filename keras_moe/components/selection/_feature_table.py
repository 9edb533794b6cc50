"""Features of examples as columns in memory."""

from collections.abc import Collection
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from keras_moe.layers.selection._features import check_unique

_COMPRESSION = "GZIP"
_READ_AT_ONCE = 4096
_DTYPES = {
    schema_pb2.FLOAT: tf.float32,
    schema_pb2.INT: tf.int64,
    schema_pb2.BYTES: tf.string,
}


class Column(NamedTuple):
    """A feature of all examples.

    Attributes:
        values: float64 `[examples, size]`, or bytes `[examples]`.
        there: bool `[examples]`, false where an example has none.
        is_whole: whether values are integers, which no rounding changes.
    """

    values: np.ndarray
    there: np.ndarray
    is_whole: bool = False

    @property
    def is_text(self) -> bool:
        """Whether values are categories, not numbers."""
        return self.values.ndim == 1


def candidates(
    schema: schema_pb2.Schema, leave: Collection[str]
) -> dict[str, tf.DType]:
    """Returns the features that may be picked or not, and their dtypes.

    Args:
        schema: of the examples.
        leave: names that are no candidates.

    Raises:
        ValueError: if a feature is named twice, or a name of `leave` is none.
    """
    names = [feature.name for feature in schema.feature]
    check_unique("schema.feature", names)
    if unknown := [name for name in leave if name not in names]:
        raise ValueError(
            f"`schema` must have the features {unknown}. Received: one of "
            f"{', '.join(names)}."
        )
    return {
        feature.name: _DTYPES[feature.type]
        for feature in schema.feature
        if feature.type in _DTYPES and feature.name not in leave
    }


def read_columns(
    patterns: Sequence[str],
    dtypes: dict[str, tf.DType],
    max_examples: int,
    seed: int,
) -> dict[str, Column]:
    """Returns features of a sample of examples.

    Those of several sizes, or several texts, are left out.

    Args:
        patterns: of files.
        dtypes: of the features.
        max_examples: size of the sample.
        seed: of its draw.

    Raises:
        ValueError: if there are no examples.
    """
    files = sorted(file for each in patterns for file in tf.io.gfile.glob(each))
    records = tf.data.TFRecordDataset(files, _COMPRESSION)
    count = sum(len(batch) for batch in records.batch(_READ_AT_ONCE))
    if not count:
        raise ValueError(
            f"`examples` must hold some. Received: none in {list(patterns)}."
        )
    random = np.random.default_rng(seed)
    keep = np.zeros(count, bool)
    keep[random.permutation(count)[:max_examples]] = True
    spec = {
        name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
        for name, dtype in dtypes.items()
    }
    parts: list[dict[str, tuple[np.ndarray, np.ndarray]]] = []
    for start, batch in enumerate(records.batch(_READ_AT_ONCE)):
        own = keep[start * _READ_AT_ONCE :][: len(batch)]
        parsed = tf.io.parse_example(tf.boolean_mask(batch, own), spec)
        parts.append(
            {
                name: (each.values.numpy(), each.row_lengths().numpy())
                for name, each in parsed.items()
            }
        )
    found = {}
    for name in dtypes:
        values, sizes = (
            np.concatenate([part[name][i] for part in parts]) for i in (0, 1)
        )
        column = _column(values, sizes)
        if column is not None:
            found[name] = column
    return found


def _column(values: np.ndarray, sizes: np.ndarray) -> Column | None:
    """Returns a feature of one size; `None` if it has several."""
    there = sizes > 0
    size = int(sizes.max(initial=0))
    is_text = values.dtype == object
    if (sizes[there] != size).any() or (is_text and size > 1):
        return None
    if is_text:
        texts = np.full(len(sizes), b"", object)
        texts[there] = values
        return Column(texts, there)
    numbers = np.zeros((len(sizes), max(size, 1)))
    if size:
        numbers[there] = values.reshape(-1, size)
    return Column(numbers, there, values.dtype.kind == "i")
