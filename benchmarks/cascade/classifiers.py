"""Linear classifiers of WordNet's glosses, small and large."""

from collections import Counter
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from benchmarks.shared.glosses import CLASSES
from benchmarks.shared.glosses import bucket
from benchmarks.shared.glosses import load_glosses
from benchmarks.shared.glosses import pad
from benchmarks.shared.glosses import words_and_pairs

_SMALL_WORDS = 600
_SMALL_ROWS, _LARGE_ROWS, _FIT_ROWS = 20_000, 80_000, 15_000
_BUCKETS = 1 << 17
_LENGTH = 48
_NOUNS = range(3, 29)  # the lexicographer's files that hold nouns


class Part(NamedTuple):
    """Rows for one purpose.

    Attributes:
        words: ids of the commonest words, int32 `[n, length]`, 0 for none.
        grams: ids of hashed words and pairs, int32 `[n, length]`.
        labels: int64 `[n]`.
    """

    words: np.ndarray
    grams: np.ndarray
    labels: np.ndarray

    def __getitem__(self, rows):
        return Part(*(tuple.__getitem__(self, i)[rows] for i in range(3)))


class Stages(NamedTuple):
    """Probabilities `[n, classes]` of each stage on the same rows."""

    labels: np.ndarray
    small: np.ndarray
    generalist: np.ndarray
    specialist: np.ndarray


def load(seed: int) -> dict[str, Part]:
    """Gives the parts of all glosses, in an order of the seed.

    Nothing of the rows on which a rule is fitted, or that are held out, enters
    the vocabulary.
    """
    texts, labels, _ = load_glosses(seed)
    counts = Counter(word for text in texts[:_SMALL_ROWS] for word in text)
    common = [word for word, _ in counts.most_common(_SMALL_WORDS)]
    ids = {word: i + 1 for i, word in enumerate(common)}
    words = pad([[ids[w] for w in t if w in ids] for t in texts], _LENGTH)
    grams = pad(
        [[bucket(g, _BUCKETS) for g in words_and_pairs(t)] for t in texts],
        _LENGTH,
    )
    whole = Part(words, grams, labels)
    ends = [0, _LARGE_ROWS, _LARGE_ROWS + _FIT_ROWS, len(labels)]
    names = ("train", "fit", "test")
    return {
        name: whole[start:end]
        for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)
    }


def predict(parts: dict[str, Part], seed: int) -> dict[str, Stages]:
    """Trains the stages, and gives their answers on held-out rows."""
    train = parts["train"]
    small = _train(train[:_SMALL_ROWS], "words", _SMALL_WORDS + 1, seed)
    generalist = _train(train, "grams", _BUCKETS, seed)
    nouns = np.isin(train.labels, _NOUNS)
    specialist = _train(train[nouns], "grams", _BUCKETS, seed)
    return {
        name: Stages(
            part.labels,
            small.predict(part.words, batch_size=4096, verbose=0),
            generalist.predict(part.grams, batch_size=4096, verbose=0),
            specialist.predict(part.grams, batch_size=4096, verbose=0),
        )
        for name, part in parts.items()
        if name != "train"
    }


def _train(part: Part, field: str, size: int, seed: int) -> keras.Model:
    inputs = keras.Input([_LENGTH], dtype="int32")
    probabilities = keras.layers.Softmax()(_BagOfIds(size)(inputs))
    model = keras.Model(inputs, probabilities)
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy"
    )
    order = np.random.default_rng(seed).permutation(len(part.labels))
    model.fit(
        getattr(part, field)[order],
        part.labels[order],
        batch_size=256,
        epochs=6,
        shuffle=False,
        verbose=0,
    )
    return model


class _BagOfIds(keras.layers.Layer):
    """Adds a row of logits for each id; an empty bag has the bias alone."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def build(self, input_shape):
        self.table = self.add_weight(shape=[self.size, CLASSES], name="table")
        self.bias = self.add_weight(shape=[CLASSES], name="bias")
        self.table.assign(ops.zeros_like(self.table))

    def call(self, inputs):
        real = ops.cast(ops.expand_dims(inputs, -1) > 0, "float32")
        total = ops.sum(real * ops.take(self.table, inputs, axis=0), axis=1)
        return total / ops.sqrt(ops.maximum(ops.sum(real, axis=1), 1.0)) + (
            self.bias
        )
