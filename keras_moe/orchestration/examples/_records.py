"""TFRecord files of examples: written whole, then verified."""

import os
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator

import tensorflow as tf

_COMPRESSION = "GZIP"
_READ_AT_ONCE = 4096


def text_example(**features: str | Iterable[str]) -> tf.train.Example:
    """Makes an example of texts.

    Example:

    >>> example = keras_moe.orchestration.text_example(word="hello")
    >>> example.features.feature["word"].bytes_list.value[0]
    b'hello'

    Args:
        **features: a text for each, or several.
    """

    def feature(given: str | Iterable[str]) -> tf.train.Feature:
        texts = [given] if isinstance(given, str) else given
        value = tf.train.BytesList(value=[text.encode() for text in texts])
        return tf.train.Feature(bytes_list=value)

    return tf.train.Example(
        features=tf.train.Features(
            feature={name: feature(value) for name, value in features.items()}
        )
    )


def write_records(
    path: pathlib.Path, examples: Iterable[tf.train.Example]
) -> int:
    """Writes a compressed file of examples, and returns how many.

    The file appears under its name when it is complete, or not at all.

    Example:

    >>> import pathlib
    >>> keras_moe.orchestration.write_records(
    ...     pathlib.Path(directory) / "train" / "examples.tfrecord.gz",
    ...     [keras_moe.orchestration.text_example(word="hello")],
    ... )
    1

    Args:
        path: where to write.
        examples: what to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The partial file is hidden, so that no reader's pattern matches it, and
    # beside the target, so that the rename stays within one file system.
    temporary = path.parent.parent / f".{path.parent.name}-{path.name}.partial"
    count = 0
    with tf.io.TFRecordWriter(str(temporary), _COMPRESSION) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
            count += 1
    os.replace(temporary, path)
    return count


def read_records(path: pathlib.Path) -> Iterator[dict[str, list[str]]]:
    """Reads back what `write_records` wrote: the texts of each example.

    Example:

    >>> import pathlib
    >>> path = pathlib.Path(directory) / "train" / "examples.tfrecord.gz"
    >>> hello = keras_moe.orchestration.text_example(word="hello")
    >>> keras_moe.orchestration.write_records(path, [hello])
    1
    >>> list(keras_moe.orchestration.read_records(path))
    [{'word': ['hello']}]

    Args:
        path: the file.
    """
    for record in tf.data.TFRecordDataset(str(path), _COMPRESSION):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        yield {
            name: [text.decode() for text in feature.bytes_list.value]
            for name, feature in features.items()
        }


def verify_records(path: pathlib.Path, expected: int) -> None:
    """Reads a file through, so that a broken one is found before training.

    Example:

    >>> import pathlib
    >>> path = pathlib.Path(directory) / "train" / "examples.tfrecord.gz"
    >>> hello = keras_moe.orchestration.text_example(word="hello")
    >>> keras_moe.orchestration.write_records(path, [hello])
    1
    >>> keras_moe.orchestration.verify_records(path, expected=1)

    Args:
        path: the file.
        expected: how many records it must hold.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file is truncated or corrupt; the message names the
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
