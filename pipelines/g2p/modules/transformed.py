"""Reads transformed examples as a stream of pairs, one a pronunciation."""

import gzip
import zlib
from collections.abc import Sequence

import tensorflow as tf

from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import ENCODER_TOKEN_IDS
from pipelines.g2p.modules.preprocessing import TARGET_TOKEN_IDS

_SPEC = {
    ENCODER_TOKEN_IDS: tf.io.FixedLenFeature([text.SOURCE_LENGTH], tf.int64),
    TARGET_TOKEN_IDS: tf.io.RaggedFeature(tf.int64),
}
# Files read in turns, and records of each turn.
_FILES_AT_ONCE = 8
_RECORDS_A_TURN = 16
_RECORDS_AT_ONCE = 4096
_PARALLEL_CALLS = 2
_BYTES_AT_ONCE = 1 << 20


def stream_pairs(
    file_patterns: Sequence[str], seed: tf.Tensor | None = None
) -> tf.data.Dataset:
    """Reads (word, pronunciation) pairs, a chunk at a time.

    `functools.partial(stream_pairs, file_patterns)` is what `training_batches`
    and `evaluation_batches` take.

    Args:
        file_patterns: patterns of gzip TFRecord files, as TFX hands them out.
        seed: seed of the order of the files; `None` to sort them by name.

    Returns:
        Chunks `(source, target)`: int32 ids `(pairs, text.SOURCE_LENGTH)` and
        `(pairs, text.MAX_PHONEMES)`. A word with several pronunciations has
        several rows; a word that was refused has none.

    Raises:
        FileNotFoundError: if no file matches.
        ValueError: if a file is truncated or corrupt.
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    if not files:
        raise FileNotFoundError(
            f"No transformed examples match {', '.join(file_patterns)}."
        )
    for file in files:
        _check_whole(file)
    names = tf.constant(files)
    if seed is not None:
        names = tf.random.experimental.stateless_shuffle(names, seed)
    records = tf.data.Dataset.from_tensor_slices(names).interleave(
        lambda file: tf.data.TFRecordDataset(file, "GZIP"),
        cycle_length=_FILES_AT_ONCE,
        block_length=_RECORDS_A_TURN,
    )
    return records.batch(_RECORDS_AT_ONCE).map(
        _parse, num_parallel_calls=_PARALLEL_CALLS, deterministic=True
    )


def _check_whole(file: str) -> None:
    """Reads a file through: TensorFlow takes a cut between records for its end.

    Args:
        file: a gzip file; it ends with its length and its checksum.
    """
    with tf.io.gfile.GFile(file, "rb") as raw:
        try:
            if not raw.size():
                raise EOFError("it has no byte")
            with gzip.GzipFile(fileobj=raw) as content:
                while content.read(_BYTES_AT_ONCE):
                    pass
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"The file {file} of transformed examples is truncated or "
                f"corrupt: {error}."
            ) from error


def _parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    parsed = tf.io.parse_example(records, _SPEC)
    words, target = _split_variants(parsed[TARGET_TOKEN_IDS])
    source = tf.gather(parsed[ENCODER_TOKEN_IDS], words)
    # Words that were refused are padding throughout: leave them out.
    accepted = source[:, 0] != text.PAD_ID
    source = tf.boolean_mask(source, accepted)
    target = tf.boolean_mask(target, accepted)
    return tf.cast(source, tf.int32), tf.cast(target, tf.int32)


def _split_variants(ids: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits the ids of whole words where a pronunciation ends.

    Args:
        ids: `(words, None)`, all pronunciations of each word, each ended by
            `text.END_ID`.

    Returns:
        `(words, target)`: the word of each pronunciation `(pairs,)` and its
        padded ids `(pairs, text.MAX_PHONEMES)`.
    """
    (ends,) = tf.unstack(tf.where(ids.flat_values == text.END_ID), axis=1)
    limits = ends + 1
    used = tf.reduce_max(tf.concat([limits, [0]], 0))
    variants = tf.RaggedTensor.from_row_limits(ids.flat_values[:used], limits)
    target = variants.to_tensor(text.PAD_ID, shape=[None, text.MAX_PHONEMES])
    return tf.gather(ids.value_rowids(), ends), target
