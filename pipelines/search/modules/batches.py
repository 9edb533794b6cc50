"""Batches of glosses and of the words that they are to find."""

from collections.abc import Sequence

import tensorflow as tf

from pipelines.search.modules.features import DOCUMENT
from pipelines.search.modules.features import GLOSS
from pipelines.search.modules.features import LEMMAS

_COMPRESSION = "GZIP"
_READ_AT_ONCE = 4096
# All of WordNet: little text, and files lie in a random order already.
_SHUFFLED = 20_000
# Seeds are as far apart: no two have a pass in common.
_MOST_EPOCHS = 100_000
# Lemmas of a synset that are looked at; few have more. The time of a step grows
# with the square.
_MOST_LEMMAS = 4
_SPEC = {
    GLOSS: tf.io.FixedLenFeature([], tf.string),
    DOCUMENT: tf.io.FixedLenFeature([], tf.string),
    LEMMAS: tf.io.RaggedFeature(tf.string),
}


def training_batches(
    file_patterns: Sequence[str], batch_size: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """Gives the batches of a pass over the data.

    Args:
        file_patterns: of the examples.
        batch_size: pairs of a batch; what is left of the last is left out.
        seed: of the order.
        epoch: the number of the pass, which has its own order.

    Returns:
        `({"query": ..., "document": ...}, keys)`, as `DualEncoder` takes them:
        texts `(batch,)`, and `(batch, keys)` hashes of lemmas, -1 for none.
        Synsets that share a lemma are no negatives of each other: their glosses
        often say nearly the same.
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    return (
        tf.data.TFRecordDataset(files, _COMPRESSION)
        .shuffle(_SHUFFLED, seed=seed * _MOST_EPOCHS + epoch)
        .batch(batch_size, drop_remainder=True)
        .map(_parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
    )


def _parse(
    records: tf.Tensor,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    parsed = tf.io.parse_example(records, _SPEC)
    texts = {"query": parsed[GLOSS], "document": parsed[DOCUMENT]}
    return texts, lemma_keys(parsed[LEMMAS])


def lemma_keys(lemmas: tf.RaggedTensor) -> tf.Tensor:
    """Returns what synsets have in common that share a lemma.

    Args:
        lemmas: strings `(synsets, lemmas)`.

    Returns:
        int32 `(synsets, keys)`, hashes, -1 for none.
    """
    hashes = tf.strings.to_hash_bucket_fast(
        tf.strings.lower(lemmas.flat_values), 2**30
    )
    keys = lemmas.with_flat_values(tf.cast(hashes, tf.int32))
    return keys[:, :_MOST_LEMMAS].to_tensor(-1, shape=[None, _MOST_LEMMAS])


def read_glosses(file_patterns: Sequence[str]) -> tf.Tensor:
    """Returns the glosses of all examples, in their order, `(examples,)`.

    Args:
        file_patterns: of the examples.
    """
    files = sorted(tf.io.gfile.glob(list(file_patterns)))
    spec = {GLOSS: _SPEC[GLOSS]}
    return tf.concat(
        [
            tf.io.parse_example(records, spec)[GLOSS]
            for records in tf.data.TFRecordDataset(files, _COMPRESSION).batch(
                _READ_AT_ONCE
            )
        ],
        axis=0,
    )
