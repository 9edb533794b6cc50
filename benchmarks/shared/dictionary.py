"""The CMU dictionary: the splits of the demo, and the ids of their words."""

import numpy as np
import tensorflow as tf

from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import split_of
from pipelines.g2p.data.dictionary import find_cmu_dictionary
from pipelines.g2p.data.dictionary import read_dictionary
from pipelines.g2p.modules import text

# Words with the pronunciations that the dictionary lists for each.
Entries = list[tuple[str, tuple[str, ...]]]


def load_splits() -> dict[str, Entries]:
    """Returns the demo's splits of the CMU dictionary."""
    splits: dict[str, Entries] = {name: [] for name in SPLITS}
    for word, listed in read_dictionary(find_cmu_dictionary()).items():
        splits[split_of(word)].append((word, listed))
    return splits


def make_pairs(entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of each (word, pronunciation) pair."""
    words = [word for word, listed in entries for _ in listed]
    listed = [one for _, listed in entries for one in listed]
    source = text.encode_words(tf.constant(words))["encoder_token_ids"]
    target = text.encode_pronunciations(tf.constant(listed))
    return source.numpy(), target.merge_dims(0, 1).to_tensor().numpy()


def word_ids(entries: Entries) -> np.ndarray:
    """Returns the ids of each word, padded."""
    words = tf.constant([word for word, _ in entries])
    return text.encode_words(words)["encoder_token_ids"].numpy()


def listed_phonemes(entries: Entries) -> list[list[list[str]]]:
    """Returns the phonemes of all pronunciations of each word."""
    return [[p.split() for p in listed] for _, listed in entries]


def answered_phonemes(token_ids: np.ndarray) -> list[list[str]]:
    """Returns the phonemes of decoded ids."""
    answers = text.decode_phonemes(tf.constant(token_ids)).numpy()
    return [answer.decode().split() for answer in answers]
