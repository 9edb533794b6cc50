"""Examples with a teacher's logits as records of TFRecord files."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_moe.distillation._batch import TEACHER_LOG_PROBABILITIES
from keras_moe.distillation._batch import TEACHER_TOKEN_IDS

LABELS = "labels"
WEIGHTS = "sample_weight"
KEPT = (TEACHER_TOKEN_IDS, TEACHER_LOG_PROBABILITIES)

# From the name of a field to its dtype and the shape of its rows: the first
# axis may be of any length (-1), the others are the same in each example.
Fields = dict[str, tuple[str, tuple[int, ...]]]


def describe_fields(
    batch: dict[str, np.ndarray], vocabulary_size: int
) -> Fields:
    """Returns the dtypes and shapes in which the fields of a batch are kept.

    Args:
        batch: name to values `(batch, ...)`.
        vocabulary_size: number of token ids.

    Raises:
        ValueError: if a field holds no numbers.
    """
    stored = {
        TEACHER_TOKEN_IDS: "uint16" if vocabulary_size <= 1 << 16 else "int32",
        # Rounding to half precision costs less than leaving out the tail.
        TEACHER_LOG_PROBABILITIES: "float16",
    }
    fields = {}
    for name, values in batch.items():
        if values.dtype.kind not in "biuf":
            raise ValueError(
                "Inputs must be numbers to be kept beside a teacher's logits. "
                f"Received: {name!r} of dtype {values.dtype}."
            )
        rows = (-1, *values.shape[2:]) if values.ndim > 1 else ()
        fields[name] = (stored.get(name, values.dtype.name), rows)
    return fields


def serialize_record(example: dict[str, np.ndarray], fields: Fields) -> bytes:
    """Returns a record.

    Args:
        example: name to the values of one row.
        fields: what `describe` returned.
    """
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[np.ascontiguousarray(example[name], dtype).tobytes()]
            )
        )
        for name, (dtype, _) in fields.items()
    }
    whole = tf.train.Example(features=tf.train.Features(feature=features))
    return whole.SerializeToString(deterministic=True)


def parse_record(record: tf.Tensor, fields: Fields) -> tuple[Any, ...]:
    """Returns the inputs and the labels of a record, and its weight if any.

    The teacher's part is made as long as the labels, with zeros for padding.

    Args:
        record: what `encode` returned.
        fields: what `describe` returned.
    """
    raw = tf.io.parse_single_example(
        record, {name: tf.io.FixedLenFeature([], tf.string) for name in fields}
    )
    values = {}
    for name, (dtype, rows) in fields.items():
        stored = "uint8" if dtype == "bool" else dtype
        value = tf.io.decode_raw(raw[name], tf.as_dtype(stored))
        values[name] = tf.reshape(tf.cast(value, dtype), rows)
    labels = values.pop(LABELS)
    length = tf.shape(labels)[0]
    for name, dtype in zip(KEPT, (tf.int32, tf.float32), strict=True):
        value = tf.cast(values[name], dtype)
        missing = length - tf.shape(value)[0]
        values[name] = tf.pad(value, [[0, missing], [0, 0]])
    if WEIGHTS in fields:
        return values, labels, values.pop(WEIGHTS)
    return values, labels
