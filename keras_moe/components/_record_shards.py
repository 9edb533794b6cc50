"""Records in Beam: their keys, and shards that any worker writes alike."""

import hashlib
from collections.abc import Iterable

import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_moe.atomic_file import atomic_file
from keras_moe.components._artifact_files import written_locally

COMPRESSION = "GZIP"


def record_key(record: bytes, name: str) -> bytes:
    """Returns the key of a record; nothing where it has not just one.

    Args:
        record: a serialized `tf.train.Example`.
        name: of a feature that holds one text or integer.
    """
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return b""
    if name not in features:
        return b""
    texts = features[name].bytes_list.value
    integers = features[name].int64_list.value
    values = [*texts, *(str(number).encode() for number in integers)]
    return values[0] if len(values) == 1 else b""


def shard_of(key: bytes, num_shards: int) -> int:
    """Returns the shard of a key: equal ones meet in one.

    Args:
        key: of a record.
        num_shards: how many there are.
    """
    digest = hashlib.sha256(key).digest()
    return int.from_bytes(digest[:8], "big") % num_shards


def write_shard(uri: str, name: str, records: Iterable[bytes]) -> int:
    """Writes a shard, whole or not at all; a second try replaces it.

    Args:
        uri: of the folder.
        name: of the file.
        records: what it holds.

    Returns:
        The number of records.
    """
    count = 0
    with written_locally(uri) as folder, atomic_file(folder / name) as partial:
        with tf.io.TFRecordWriter(str(partial), COMPRESSION) as writer:
            for record in records:
                writer.write(record)
                count += 1
    return count
