"""Transformed examples of the dictionary, as often as is wanted."""

import pathlib

import tensorflow as tf

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import load_splits
from keras_moe.orchestration import hash_position
from pipelines.g2p.modules.preprocessing import PRONUNCIATIONS
from pipelines.g2p.modules.preprocessing import WORD
from pipelines.g2p.modules.preprocessing import preprocessing_fn
from pipelines.g2p.phonemes import VARIANT_SEPARATOR

_SPLITS = ("train", "validation")


def write_examples(folder: pathlib.Path, times: int) -> None:
    """Writes one file a split, `TIMES/SPLIT.gz`, unless it is there.

    Args:
        folder: where they go.
        times: how often each word is in its file.
    """
    splits = None
    for split in _SPLITS:
        path = pattern(folder, times, split)
        if not path.exists():
            splits = splits or load_splits()
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, splits[split], times)


def pattern(folder: pathlib.Path, times: int, split: str) -> pathlib.Path:
    """Returns where a split is."""
    return folder / f"{times}x" / f"{split}.gz"


def _write(path: pathlib.Path, entries: Entries, times: int) -> None:
    # The order of the pipeline's files, see `orchestration.prepare_span`.
    entries = sorted(
        entries, key=lambda entry: hash_position(entry[0], "order:")
    )
    records = _records(entries)
    partial = path.with_suffix(".partial")
    with tf.io.TFRecordWriter(str(partial), "GZIP") as writer:
        for _ in range(times):
            for record in records:
                writer.write(record)
    partial.rename(path)


def _records(entries: Entries) -> list[bytes]:
    """Returns what Transform writes of words."""
    listed = [VARIANT_SEPARATOR.join(listed) for _, listed in entries]
    features = preprocessing_fn(
        {
            WORD: tf.constant([word for word, _ in entries]),
            PRONUNCIATIONS: tf.constant(listed),
        },
        {"keep_stress": False},
    )
    ids = {
        name: tf.RaggedTensor.from_sparse(values).to_list()
        if isinstance(values, tf.SparseTensor)
        else values.numpy()
        for name, values in features.items()
        if values.dtype == tf.int64
    }
    return [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: tf.train.Feature(
                        int64_list=tf.train.Int64List(value=rows[row])
                    )
                    for name, rows in ids.items()
                }
            )
        ).SerializeToString()
        for row in range(len(entries))
    ]
