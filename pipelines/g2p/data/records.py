"""TFRecord files of words and pronunciations: written whole, then verified."""

import os
import pathlib
from collections.abc import Iterable

import tensorflow as tf

from pipelines.g2p.phonemes import VARIANT_SEPARATOR

_COMPRESSION = "GZIP"
_READ_AT_ONCE = 4096
# Groups of words by length: the greatest length, in characters, and the name.
_LENGTHS = {4: "1-4", 7: "5-7", 10: "8-10"}
_LONG = "11+"


def write_records(
    path: pathlib.Path, entries: Iterable[tuple[str, tuple[str, ...]]]
) -> int:
    """Writes one `tf.train.Example` a word, and returns how many.

    The file appears under its name when it is complete, or not at all.

    Args:
        path: Where to write.
        entries: Words with their pronunciations.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The partial file is hidden, so that no reader's pattern matches it, and
    # beside the target, so that the rename stays within one file system.
    temporary = path.parent.parent / f".{path.parent.name}-{path.name}.partial"
    count = 0
    with tf.io.TFRecordWriter(str(temporary), _COMPRESSION) as writer:
        for word, pronunciations in entries:
            writer.write(_example(word, pronunciations).SerializeToString())
            count += 1
    os.replace(temporary, path)
    return count


def read_records(path: pathlib.Path) -> list[tuple[str, tuple[str, ...]]]:
    """Reads back what `write_records` wrote."""
    entries = []
    for record in tf.data.TFRecordDataset(str(path), _COMPRESSION):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        word, listed = (
            features[name].bytes_list.value[0].decode()
            for name in ("word", "pronunciations")
        )
        entries.append((word, tuple(listed.split(VARIANT_SEPARATOR))))
    return entries


def verify_records(path: pathlib.Path, expected: int) -> None:
    """Reads a file through, so that a broken one is found before training.

    Args:
        path: The file.
        expected: How many records it must hold.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the file is truncated or corrupt; the message names the
            file and the number of records that could be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The TFRecord file {path} is missing.")
    try:
        count = _count(path, batch_size=_READ_AT_ONCE)
    except tf.errors.OpError as error:
        raise ValueError(
            f"The TFRecord file {path} is truncated or corrupt after "
            f"{_count_readable(path)} of {expected} records: {error.message}. "
            "Remove it and run again to have it written anew."
        ) from error
    if count != expected:
        raise ValueError(
            f"The TFRecord file {path} must hold {expected} records. "
            f"Received: {count}; it was truncated or replaced. Remove it and "
            "run again to have it written anew."
        )


def _count(path: pathlib.Path, batch_size: int) -> int:
    records = tf.data.TFRecordDataset(str(path), _COMPRESSION)
    return sum(int(b.shape[0]) for b in records.batch(batch_size))


def _count_readable(path: pathlib.Path) -> int:
    """Counts one by one, up to the record that cannot be read."""
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(str(path), _COMPRESSION):
            count += 1
    except tf.errors.OpError:
        pass
    return count


def length_of(word: str) -> str:
    """Returns the name of a word's group of lengths."""
    for longest, name in _LENGTHS.items():
        if len(word) <= longest:
            return name
    return _LONG


def _example(word: str, pronunciations: tuple[str, ...]) -> tf.train.Example:
    def feature(*texts: str) -> tf.train.Feature:
        value = tf.train.BytesList(value=[text.encode() for text in texts])
        return tf.train.Feature(bytes_list=value)

    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "word": feature(word),
                "pronunciations": feature(
                    VARIANT_SEPARATOR.join(pronunciations)
                ),
                # Evaluation slices by these; the model never sees them.
                "word_length": feature(length_of(word)),
                "letters": feature(*sorted(set(word))),
            }
        )
    )
