"""Reads transformed examples into arrays, one row a pronunciation."""

import numpy as np
import tensorflow as tf

from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import ENCODER_TOKEN_IDS
from pipelines.g2p.modules.preprocessing import TARGET_TOKEN_IDS

_SPEC = {
    ENCODER_TOKEN_IDS: tf.io.FixedLenFeature([text.SOURCE_LENGTH], tf.int64),
    TARGET_TOKEN_IDS: tf.io.RaggedFeature(tf.int64),
}
_PARSED_AT_ONCE = 8192


def read_pairs(file_patterns: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reads (word, pronunciation) pairs; the dictionary fits into memory.

    Args:
        file_patterns: Patterns of gzip TFRecord files, as TFX hands them out.

    Returns:
        `(source, target)`: int32 arrays `(pairs, text.SOURCE_LENGTH)` and
        `(pairs, text.MAX_PHONEMES)`. A word with several pronunciations has
        several rows; a word that was refused has none.
    """
    files = tf.io.gfile.glob(file_patterns)
    if not files:
        raise FileNotFoundError(
            f"No transformed examples match {', '.join(file_patterns)}."
        )
    sources, targets = [], []
    records = tf.data.TFRecordDataset(sorted(files), "GZIP")
    for batch in records.batch(_PARSED_AT_ONCE):
        parsed = tf.io.parse_example(batch, _SPEC)
        source = parsed[ENCODER_TOKEN_IDS].numpy()
        words, target = _split_variants(
            parsed[TARGET_TOKEN_IDS].values.numpy(),
            parsed[TARGET_TOKEN_IDS].row_splits.numpy(),
        )
        # Words that were refused are padding throughout: leave them out.
        accepted = source[words, 0] != text.PAD_ID
        sources.append(source[words][accepted].astype(np.int32))
        targets.append(target[accepted])
    return np.concatenate(sources), np.concatenate(targets)


def _split_variants(
    ids: np.ndarray, row_splits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the ids of whole words where a pronunciation ends.

    Args:
        ids: `(total,)`, the pronunciations of all words, each ended by
            `text.END_ID`.
        row_splits: `(words + 1,)`, where each word starts and ends.

    Returns:
        `(words, target)`: the word of each pronunciation `(pairs,)` and its
        padded ids `(pairs, text.MAX_PHONEMES)`.
    """
    ends = np.flatnonzero(ids == text.END_ID)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    words = np.searchsorted(row_splits, ends, side="right") - 1
    lengths = ends + 1 - starts
    # (pairs, time): the place in `ids` of each target position.
    offsets = np.arange(text.MAX_PHONEMES)
    inside = offsets < lengths[:, np.newaxis]
    target = np.full(inside.shape, text.PAD_ID, np.int32)
    places = starts[:, np.newaxis] + offsets
    target[inside] = ids[places[inside]]
    return words, target
