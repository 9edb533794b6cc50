"""The model: glosses and words, embedded by the stems in them."""

import dataclasses

import keras
import tensorflow as tf
from keras import ops

from keras_moe.models import DualEncoder

# A stem has at least three letters. Twice, since "carelessness" has two.
_SUFFIX = (
    r"^(.{3,}?)(?:ings?|edly|ed|ies|es|s|ly|ness|ments?|ations?|ions?|ers?"
    r"|ors?|able|ible|al|ic|ity|ous|ive|y|e)$"
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the model is made of, and how it is trained.

    Attributes:
        num_stems: rows of the table; stems are hashed to them.
        dim: of a vector.
        max_words: of a text, what follows is not read.
        temperature: of the softmax.
        stem_dropout: share of the stems of a text that are left out while
            training.
    """

    num_stems: int = 65_536
    dim: int = 128
    max_words: int = 32
    temperature: float = 0.05
    stem_dropout: float = 0.2


@keras.saving.register_keras_serializable(package="search")
class HashedStems(keras.layers.Layer):
    """Numbers of the words of texts: hashes of their stems.

    With string operations that are TensorFlow's own and without tables, so that
    a model that reads texts is answered by any model server.

    Args:
        num_stems: numbers are below it.
        max_words: words that are read.

    Call arguments:
        texts: strings `(batch,)`.

    Output shape:
        int64 `(batch, words)`, 0 for padding; as many as the longest text has,
        and at least one.
    """

    def __init__(self, num_stems: int, max_words: int, **kwargs):
        super().__init__(**kwargs)
        self.num_stems = num_stems
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
        numbers = 1 + tf.strings.to_hash_bucket_fast(stems, self.num_stems - 1)
        padded = words.with_flat_values(numbers).to_tensor(0)
        # A batch without a word has no columns, of which there is no sum.
        missing = tf.maximum(0, 1 - tf.shape(padded)[1])
        return tf.pad(padded, [[0, 0], [0, missing]])

    def compute_output_spec(self, texts: keras.KerasTensor):
        """Returns what symbolic texts give."""
        return keras.KerasTensor((texts.shape[0], None), "int64")

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_stems": self.num_stems,
            "max_words": self.max_words,
        }


def make_encoder(sizes: Sizes) -> keras.Model:
    """Makes the encoder of texts, untrained.

    A weighted sum of vectors of stems. How much a stem counts is learned, as
    are the vectors.
    """
    texts = keras.Input((), dtype="string", name="text")
    stems = HashedStems(sizes.num_stems, sizes.max_words)(texts)
    weigh = keras.layers.Embedding(
        sizes.num_stems, 1, embeddings_initializer="zeros", name="weights"
    )
    embed = keras.layers.Embedding(
        sizes.num_stems,
        sizes.dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=0.1),
        name="vectors",
    )
    real = ops.expand_dims(ops.cast(stems > 0, "float32"), -1)
    weights = ops.exp(weigh(stems)) * real
    weights = keras.layers.Dropout(sizes.stem_dropout)(weights)
    # Divided by nothing: the model makes vectors 1 long.
    bag = ops.sum(embed(stems) * weights, axis=1)
    return keras.Model(texts, bag, name="encoder")


def make_model(sizes: Sizes) -> DualEncoder:
    """Makes the model, untrained.

    One encoder for glosses and for words: what is in both matches from the
    first step on. Two of them, or two with a table in common, find no more.
    """
    return DualEncoder(make_encoder(sizes), temperature=sizes.temperature)
