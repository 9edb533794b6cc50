"""The features of an example: a synset, its gloss, the text that is found."""

import tensorflow as tf

SYNSET = "synset"
# What people type, and what the model learns to find the synset by.
GLOSS = "gloss"
# What is searched: words and broader words.
DOCUMENT = "document"
# The words alone: synsets that share one are no negatives of each other.
LEMMAS = "lemmas"

# The name of a query in requests, and of the statuses of a row.
QUERY = "query"
OK = "ok"
TOO_SHORT = "too_short"
TOO_LONG = "too_long"

# A query with fewer letters says nothing: "to", "of a".
MIN_LETTERS = 3
MAX_CHARACTERS = 1000


def status_of(texts: tf.Tensor) -> tf.Tensor:
    """Returns the status of each text, in a graph.

    Args:
        texts: `[batch]`, in UTF-8.
    """
    letters = tf.strings.length(
        tf.strings.regex_replace(texts, r"\PL", ""), unit="UTF8_CHAR"
    )
    too_long = tf.strings.length(texts, unit="UTF8_CHAR") > MAX_CHARACTERS
    good = tf.where(letters < MIN_LETTERS, TOO_SHORT, OK)
    return tf.where(too_long, TOO_LONG, good)
