"""WordNet -> split TFRecord files, a span for each version of it."""

import pathlib

import tensorflow as tf

from keras_moe.orchestration import Span
from keras_moe.orchestration import prepare_span
from keras_moe.orchestration import text_example
from pipelines.search.configs import DataConfig
from pipelines.search.data.wordnet import FILES
from pipelines.search.data.wordnet import Synset
from pipelines.search.data.wordnet import find_wordnet
from pipelines.search.data.wordnet import read_wordnet
from pipelines.search.modules.features import DOCUMENT
from pipelines.search.modules.features import GLOSS
from pipelines.search.modules.features import LEMMAS
from pipelines.search.modules.features import SYNSET


def prepare_synsets(config: DataConfig, directory: pathlib.Path) -> Span:
    """Prepares WordNet as a span of its own, unless it is one already.

    A synset is one example, so that its gloss and its words are in one split.

    Args:
        config: Where WordNet is, and how much of it counts.
        directory: Where the spans go.
    """
    folder = config.wordnet or find_wordnet()
    return prepare_span(
        directory,
        [folder / name for name in FILES],
        lambda: {each.identifier: each for each in read_wordnet(folder)},
        synset_example,
        config.fractions,
        config.max_synsets,
    )


def synset_example(identifier: str, synset: Synset) -> tf.train.Example:
    """Makes the example of a synset.

    Args:
        identifier: Of the synset.
        synset: Its words and its gloss.
    """
    return text_example(
        **{
            SYNSET: identifier,
            GLOSS: synset.gloss,
            DOCUMENT: synset.document,
            LEMMAS: synset.lemmas,
        }
    )
