"""Weights are looked at before a model learns from them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.training import Trainer
from keras_moe.training._watched_batches import watch_batches
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import WEIGHTS
from tests.distillation.distiller_case import classifier

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BAD = [
    (-1.0, r"at least 0. Received: -1.0 at \[2\]"),
    (np.nan, r"at least 0. Received: nan at \[2\]"),
    (np.inf, r"at least 0. Received: inf at \[2\]"),
]


def spoiled(bad):
    weights = WEIGHTS.copy()
    weights[2] = bad
    return weights


def distiller():
    made = SparseToDenseDistiller(classifier(0), classifier(1))
    made.compile("sgd", LOSS, run_eagerly=True)
    return made


def batches(weights):
    parts = (FEATURES, LABELS, weights)
    return tf.data.Dataset.from_tensor_slices(parts).batch(2)


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_arrays(bad, message):
    with pytest.raises(ValueError, match=message):
        distiller().fit(FEATURES, LABELS, sample_weight=spoiled(bad))
    with pytest.raises(ValueError, match="must not all be 0.* 6 zeros"):
        distiller().fit(FEATURES, LABELS, sample_weight=np.zeros(6))


# By default infinity in arrays alone, above.
@pytest.mark.parametrize(
    ("bad", "_"), [*BAD[:2], pytest.param(*BAD[2], marks=pytest.mark.large)]
)
def test_data_sets(bad, _):
    message = "must be numbers of at least 0"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        distiller().fit(batches(spoiled(bad)), verbose=0)
    model = classifier(0)
    model.compile("sgd", LOSS, jit_compile=False)
    for data in (batches(spoiled(bad)), lambda epoch: batches(spoiled(bad))):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            Trainer(model).fit(data, verbose=0)


def test_good_ones_pass_as_they_are():
    given = batches(WEIGHTS)
    watched = watch_batches(given, None, None)
    assert watched.element_spec == given.element_spec
    assert watched.cardinality() == given.cardinality()
    for one, other in zip(given, watched, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    pairs = given.map(lambda x, y, w: (x, y))
    assert watch_batches(pairs, None, None) is pairs


def test_a_sequence_of_batches():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(2 * index, 2 * index + 2)
            return FEATURES[rows], LABELS[rows], -np.ones(2)

    with pytest.raises(ValueError, match="at least 0. Received: -1.0"):
        distiller().fit(Batches(), verbose=0)
