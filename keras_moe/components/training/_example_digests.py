"""What tells an example from others, whatever order its features are in."""

import hashlib
from collections.abc import Iterable
from collections.abc import Iterator

import tensorflow as tf
from google.protobuf import message


def example_digests(patterns: Iterable[str]) -> Iterator[bytes]:
    """Yields a digest of each example.

    Args:
        patterns: of the files of a split, compressed TFRecords, as ExampleGen
            writes them.
    """
    files = tf.io.gfile.glob(list(patterns))
    records = tf.data.TFRecordDataset(sorted(files), "GZIP")
    for record in records.as_numpy_iterator():
        yield hashlib.sha256(_in_order(record)).digest()


def _in_order(record: bytes) -> bytes:
    """Returns an example with its features in one order, if it is one."""
    try:
        example = tf.train.Example.FromString(record)
    except message.DecodeError:
        return record
    return example.SerializeToString(deterministic=True)
