"""Words to ids and ids to phonemes, inside the graph.

Everything here is TensorFlow operations on constants: no lookup tables, no
assets, so the same few lines serve `preprocessing_fn`, the exported model and
the tests. Each row stands alone: a bad word never touches its batch mates.
"""

import functools

import numpy as np
import tensorflow as tf

from pipelines.g2p.phonemes import VARIANT_SEPARATOR
from pipelines.g2p.phonemes import inventory

ALPHABET = "abcdefghijklmnopqrstuvwxyz'-."
MAX_WORD_LENGTH = 32  # characters
MAX_PHONEMES = 32  # ids, the end id among them

PAD_ID = 0
END_ID = 1
UNKNOWN_ID = 2
FIRST_ID = 3

# Every accepted word ends with `END_ID`: one id more than characters, and only
# a refused word is padding throughout.
SOURCE_LENGTH = MAX_WORD_LENGTH + 1
SOURCE_VOCABULARY_SIZE = FIRST_ID + len(ALPHABET)

STATUS_OK = "ok"
STATUS_EMPTY = "empty"
STATUS_TOO_LONG = "too_long"
STATUS_UNKNOWN = "unknown_characters"

_ASCII = 128
_BYTES_PER_CHARACTER = 4  # at most, in UTF-8


def target_vocabulary_size(keep_stress: bool = False) -> int:
    """Returns the number of target ids, special ones included."""
    return FIRST_ID + len(inventory(keep_stress))


@functools.cache
def _codepoint_table() -> np.ndarray:
    """Returns the id of each ASCII codepoint; the last entry is all others."""
    table = np.full(_ASCII + 1, UNKNOWN_ID, np.int64)
    for index, character in enumerate(ALPHABET):
        table[ord(character)] = FIRST_ID + index
    return table


def encode_words(words: tf.Tensor) -> dict[str, tf.Tensor]:
    """Encodes words as character ids, with a status for each.

    Words are stripped of surrounding white space and lower-cased. The
    statuses:

    - `"ok"`: every character is known.
    - `"unknown_characters"`: the unknown ones (and invalid UTF-8) were
      skipped; the rest is pronounced. If nothing is left, the word is refused.
    - `"empty"`: nothing to pronounce; refused.
    - `"too_long"`: more than `MAX_WORD_LENGTH` characters; refused, never cut
      to a word that was not asked for.

    Args:
        words: string tensor `(batch,)`.

    Returns:
        `{"encoder_token_ids": int64 (batch, SOURCE_LENGTH), "status": string
        (batch,)}`. A refused word is a row of padding.
    """
    words = tf.strings.lower(tf.strings.strip(words))
    # Cut before decoding, which bounds the work: the first characters show
    # that a word is too long.
    words = tf.strings.substr(
        words, 0, _BYTES_PER_CHARACTER * (MAX_WORD_LENGTH + 1)
    )
    codepoints = tf.strings.unicode_decode(words, "UTF-8", errors="replace")
    length = codepoints.row_lengths()
    ids = codepoints.with_flat_values(
        tf.gather(
            tf.constant(_codepoint_table()),
            tf.minimum(codepoints.flat_values, _ASCII),
        )
    )
    known = tf.ragged.boolean_mask(ids, tf.not_equal(ids, UNKNOWN_ID))
    num_known = known.row_lengths()

    too_long = length > MAX_WORD_LENGTH
    refused = tf.logical_or(too_long, tf.equal(num_known, 0))
    end = tf.one_hot(
        num_known, SOURCE_LENGTH, on_value=np.int64(END_ID), dtype=tf.int64
    )
    dense = known.to_tensor(PAD_ID, shape=[None, SOURCE_LENGTH])
    status = tf.where(
        too_long,
        STATUS_TOO_LONG,
        tf.where(
            tf.equal(length, 0),
            STATUS_EMPTY,
            tf.where(num_known < length, STATUS_UNKNOWN, STATUS_OK),
        ),
    )
    return {
        "encoder_token_ids": tf.where(
            refused[:, tf.newaxis], np.int64(PAD_ID), dense + end
        ),
        "status": status,
    }


def encode_pronunciations(
    pronunciations: tf.Tensor, keep_stress: bool = False
) -> tf.RaggedTensor:
    """Encodes `"HH AH L OW|HH EH L OW"` as ids, one row a variant.

    Args:
        pronunciations: string tensor `(batch,)`.
        keep_stress: `bool`. Which inventory the symbols are from.

    Returns:
        int64 `(batch, variants, ids)`, ragged in the last two axes; each
        variant ends with `END_ID`.
    """
    variants = tf.strings.split(pronunciations, VARIANT_SEPARATOR)
    symbols = tf.strings.split(variants.flat_values)
    is_symbol = tf.equal(  # (symbols, inventory)
        symbols.flat_values[:, tf.newaxis],
        tf.constant(inventory(keep_stress)),
    )
    ids = tf.where(
        tf.reduce_any(is_symbol, axis=-1),
        tf.argmax(is_symbol, axis=-1, output_type=tf.int64) + FIRST_ID,
        np.int64(UNKNOWN_ID),
    )
    end = tf.fill([symbols.nrows(), 1], np.int64(END_ID))
    ended = tf.concat([symbols.with_flat_values(ids), end], axis=1)
    return variants.with_flat_values(ended)


def decode_phonemes(
    token_ids: tf.Tensor, keep_stress: bool = False
) -> tf.Tensor:
    """Turns target ids into phonemes, up to the first end id.

    Args:
        token_ids: int tensor `(batch, time)`.
        keep_stress: `bool`. Which inventory the ids are from.

    Returns:
        string `(batch,)`, phonemes separated by spaces. Special ids (padding,
        unknown) have no phoneme and are left out.
    """
    symbols = ("",) * FIRST_ID + inventory(keep_stress)
    ended = tf.cumsum(tf.cast(tf.equal(token_ids, END_ID), tf.int32), axis=1)
    spoken = tf.logical_and(
        tf.equal(ended, 0),
        tf.logical_and(token_ids >= FIRST_ID, token_ids < len(symbols)),
    )
    kept = tf.ragged.boolean_mask(token_ids, spoken)
    words = kept.with_flat_values(
        tf.gather(tf.constant(symbols), kept.flat_values)
    )
    return tf.strings.reduce_join(words, axis=-1, separator=" ")
