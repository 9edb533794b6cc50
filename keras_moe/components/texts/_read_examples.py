"""Examples of a split, as tensors."""

from collections.abc import Mapping
from collections.abc import Sequence

import tensorflow as tf

# Parsed at once: as many are in memory as records and as tensors.
_AT_ONCE = 4096


def read_examples(
    file_patterns: Sequence[str], spec: Mapping[str, tf.io.FixedLenFeature]
) -> dict[str, tf.Tensor]:
    """Returns the features of all examples, in their order.

    Args:
        file_patterns: of TFRecord files of `tf.train.Example`, compressed with
            gzip.
        spec: of the features. Those of int64 are ids, returned as int32.

    Raises:
        FileNotFoundError: if no file matches.
        ValueError: if the files hold no example.
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    if not files:
        raise FileNotFoundError(
            f"No examples match {', '.join(file_patterns)}."
        )
    parts = [
        tf.io.parse_example(records, spec)
        for records in tf.data.TFRecordDataset(files, "GZIP").batch(_AT_ONCE)
    ]
    if not parts:
        raise ValueError(
            "A split must hold examples. Received: none in "
            f"{', '.join(file_patterns)}; its share of the data may be too "
            "small."
        )
    return {name: _join([part[name] for part in parts]) for name in spec}


def _join(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    if parts[0].dtype == tf.int64:
        parts = [tf.cast(part, tf.int32) for part in parts]
    return tf.concat(parts, axis=0)
