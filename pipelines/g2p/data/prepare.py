"""Dictionary -> split TFRecord files, a span for each state of it."""

import pathlib

import tensorflow as tf

from keras_moe.orchestration import Span
from keras_moe.orchestration import prepare_span
from keras_moe.orchestration import text_example
from pipelines.g2p.configs import DataConfig
from pipelines.g2p.data.dictionary import find_cmu_dictionary
from pipelines.g2p.data.dictionary import read_dictionary
from pipelines.g2p.phonemes import VARIANT_SEPARATOR

# Groups of words by length: the greatest length, in characters, and the name.
_LENGTHS = {4: "1-4", 7: "5-7", 10: "8-10"}
_LONG = "11+"


def prepare_words(config: DataConfig, directory: pathlib.Path) -> Span:
    """Prepares a dictionary as a span of its own, unless it is one already.

    All pronunciations of a word are one example. A dictionary that has grown
    becomes the next span, whole.

    Args:
        config: Which dictionary, and how to read it.
        directory: Where the spans go.
    """
    source = config.dictionary or find_cmu_dictionary()
    return prepare_span(
        directory,
        [source],
        lambda: read_dictionary(source, config.keep_stress),
        word_example,
        config.fractions,
        config.max_words,
        options=config.keep_stress,
    )


def word_example(
    word: str, pronunciations: tuple[str, ...]
) -> tf.train.Example:
    """Makes the example of a word.

    Args:
        word: Which one.
        pronunciations: All that are listed.
    """
    return text_example(
        word=word,
        pronunciations=VARIANT_SEPARATOR.join(pronunciations),
        # Evaluation slices by these; the model never sees them.
        word_length=length_of(word),
        letters=sorted(set(word)),
    )


def length_of(word: str) -> str:
    """Returns the name of a word's group of lengths."""
    for longest, name in _LENGTHS.items():
        if len(word) <= longest:
            return name
    return _LONG
