"""The model: glosses and words, embedded by the terms in them."""

import dataclasses

import keras
import tensorflow as tf
from keras import ops

from keras_moe.models import DualEncoder

# Three letters at least are left. Taken off twice: "nationality" has two.
_SUFFIX = (
    r"^(.{3,}?)(?:ings?|edly|ed|ies|es|s|ly|ness|ments?|ations?|ions?|ers?"
    r"|ors?|able|ible|al|ic|ity|ous|ive|y|e)$"
)
# Before a stem, so that it is no word.
_STEM = "-"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the model is made of.

    Attributes:
        num_terms: rows of the table; words and stems are hashed to them.
        dim: of a vector.
        max_words: of a text, what follows is not read.
        temperature: of the softmax.
        term_dropout: share of the terms of a text that are left out while
            training.
    """

    num_terms: int = 65_536
    dim: int = 256
    max_words: int = 24
    temperature: float = 0.05
    term_dropout: float = 0.2


@keras.saving.register_keras_serializable(package="search")
class HashedTerms(keras.layers.Layer):
    """Numbers of the words of texts, and of their stems.

    With string operations that are TensorFlow's own and without tables, so that
    a model that reads texts is answered by any model server.

    Args:
        num_terms: numbers are below it.
        max_words: words that are read.

    Call arguments:
        texts: strings `(batch,)`.

    Output shape:
        int64 `(batch, terms)`, 0 for padding; as many as the longest text has,
        and at least one.
    """

    def __init__(self, num_terms: int, max_words: int, **kwargs):
        super().__init__(**kwargs)
        self.num_terms = num_terms
        self.max_words = max_words
        # XLA knows no strings.
        self.supports_jit = False

    def call(self, texts: tf.Tensor) -> tf.Tensor:
        plain = tf.strings.regex_replace(
            tf.strings.lower(texts), "[^a-z0-9]+", " "
        )
        words = tf.strings.split(plain)[:, : self.max_words]
        stems = words.flat_values
        for _ in range(2):
            stems = tf.strings.regex_replace(stems, _SUFFIX, r"\1")
        stems = words.with_flat_values(_STEM + stems)
        terms = tf.concat([words, stems], axis=1)
        numbers = tf.strings.to_hash_bucket_fast(
            terms.flat_values, self.num_terms - 1
        )
        padded = terms.with_flat_values(1 + numbers).to_tensor(0)
        # A batch without a word has no columns, of which there is no sum.
        missing = tf.maximum(0, 1 - tf.shape(padded)[1])
        return tf.pad(padded, [[0, 0], [0, missing]])

    def compute_output_spec(self, texts: keras.KerasTensor):
        """Returns what symbolic texts give."""
        return keras.KerasTensor((texts.shape[0], None), "int64")

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_terms": self.num_terms,
            "max_words": self.max_words,
        }


def make_encoder(sizes: Sizes) -> keras.Model:
    """Makes the encoder of texts, untrained.

    A weighted sum of vectors of terms. How much a term counts is learned, as
    are the vectors.

    Args:
        sizes: what it is made of.
    """
    texts = keras.Input((), dtype="string", name="text")
    terms = HashedTerms(sizes.num_terms, sizes.max_words)(texts)
    weigh = keras.layers.Embedding(
        sizes.num_terms, 1, embeddings_initializer="zeros", name="weights"
    )
    embed = keras.layers.Embedding(
        sizes.num_terms,
        sizes.dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=0.1),
        name="vectors",
    )
    real = ops.expand_dims(ops.cast(terms > 0, "float32"), -1)
    weights = ops.exp(weigh(terms)) * real
    weights = keras.layers.Dropout(sizes.term_dropout)(weights)
    # Divided by nothing: the model makes vectors 1 long.
    bag = ops.sum(embed(terms) * weights, axis=1)
    return keras.Model(texts, bag, name="encoder")


def make_model(sizes: Sizes) -> DualEncoder:
    """Makes the model, untrained.

    One encoder for glosses and for words: what is in both matches from the
    first step on. Two of them, or two with a table in common, find no more.

    Args:
        sizes: what it is made of.
    """
    return DualEncoder(make_encoder(sizes), temperature=sizes.temperature)
