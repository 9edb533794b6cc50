"""Keys of documents and of negatives, in whatever integers they come."""

import keras
import numpy as np
import pytest

from keras_moe.losses import accidental_hits
from keras_moe.models import DualEncoder

RNG = np.random.default_rng(4)
X = {
    "query": RNG.normal(size=(4, 5)).astype("float32"),
    "document": RNG.normal(size=(4, 5)).astype("float32"),
    "negatives": RNG.normal(size=(4, 1, 5)).astype("float32"),
}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint64"])
def test_keys_are_not_cast_to_the_labels(dtype):
    """As uint8, -1 is the key 255; as int32, 2^32 + 3 is the key 3."""
    model = DualEncoder(keras.Sequential([keras.layers.Dense(3)]))
    model.compile("sgd", run_eagerly=True)
    negative_keys = np.array([[-1], [2**32 + 3], [-1], [0]])
    history = model.fit(
        {**X, "negative_keys": negative_keys},
        np.array([255, 3, 1, 0], dtype),
        batch_size=4,
        verbose=0,
    ).history
    # All have 7, but for the last, whose key the last negative shares.
    assert history["in_batch_negatives"] == [(3 * 7 + 6) / 4]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "uint32", "int32"]
)
def test_hits_of_different_integers(dtype):
    others = np.array([-1, 2**32 + 3, 3, 255, -2])
    hits = np.asarray(accidental_hits(np.array([100, 3], dtype), others))
    np.testing.assert_array_equal(hits[0], [False] * 5)
    np.testing.assert_array_equal(hits[1], [False, False, True, False, False])


def test_hashes_without_a_sign_are_keys():
    keys = np.array([2**64 - 5, 2**63, 7], "uint64")
    np.testing.assert_array_equal(accidental_hits(keys, keys), np.eye(3) > 0)
