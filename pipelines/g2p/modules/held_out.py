"""The words of a held-out split, and what answers to them say."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import PRONUNCIATIONS
from pipelines.g2p.modules.preprocessing import WORD
from pipelines.g2p.phonemes import VARIANT_SEPARATOR

_SPEC = {
    WORD: tf.io.FixedLenFeature([], tf.string),
    PRONUNCIATIONS: tf.io.FixedLenFeature([], tf.string),
}

Phonemes = list[str]


class HeldOut(NamedTuple):
    """Words that calibrate.

    Attributes:
        token_ids: int `(n, length)`, of the words.
        listed: The phonemes of all pronunciations of each.
    """

    token_ids: np.ndarray
    listed: list[list[Phonemes]]


def read_held_out(file_patterns: Sequence[str], max_words: int) -> HeldOut:
    """Reads the first words of a split.

    Args:
        file_patterns: Of its files.
        max_words: How many, at most.

    Raises:
        ValueError: If there is none.
    """
    files = tf.io.gfile.glob(list(file_patterns))
    records = tf.data.TFRecordDataset(sorted(files), "GZIP")
    batch = next(iter(records.take(max_words).batch(max_words)), None)
    if batch is None:
        raise ValueError(
            "The calibration split must hold a word. Received: none in "
            f"{', '.join(file_patterns)}."
        )
    parsed = tf.io.parse_example(batch, _SPEC)
    listed = [
        [p.split() for p in variants.decode().split(VARIANT_SEPARATOR)]
        for variants in parsed[PRONUNCIATIONS].numpy()
    ]
    ids = text.encode_words(parsed[WORD])["encoder_token_ids"].numpy()
    return HeldOut(ids, listed)


def phonemes(token_ids: np.ndarray, keep_stress: bool) -> list[Phonemes]:
    """Returns the phonemes of answers `(n, length)`."""
    answers = text.decode_phonemes(tf.constant(token_ids), keep_stress)
    return [answer.decode().split() for answer in answers.numpy()]
