"""Vectors and scores that are finite until the search casts them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe import retrieval
from keras_moe import serving

ROWS = np.eye(4, dtype="float32") + 1
NAMES = ["a", "b", "c", "d"]


def make_encode(dtype):
    """A text is the number that the vector has in each place."""

    def encode(texts):
        number = tf.strings.to_number(texts, dtype)
        return {"embedding": tf.stack([number] * 4, axis=1)}

    return encode


def blocks(**options):
    return retrieval.BlockIndex(ROWS, NAMES, k=2, blocks_to_search=1, **options)


@pytest.mark.parametrize(
    ("make_search", "dtype", "text"),
    [
        (lambda: layers.Retrieval(ROWS, NAMES, k=2), tf.float64, "1e300"),
        (lambda: layers.Retrieval(ROWS, NAMES, k=2), tf.float32, "3e38"),
        (lambda: layers.Retrieval(ROWS, NAMES, k=2), tf.float32, "-3e38"),
        (lambda: blocks(dtype="mixed_float16"), tf.float32, "1e5"),
        (lambda: blocks(dtype="mixed_float16"), tf.float32, "-1e5"),
        (blocks, tf.float32, "3e38"),
        (blocks, tf.float32, "-3e38"),
    ],
)
def test_what_is_not_finite_in_the_search_is_refused(
    make_search, dtype, text, tmp_path
):
    serving.export_search(
        tmp_path / "1", make_encode(dtype), make_search(), default_k=2
    )
    served = tf.saved_model.load(str(tmp_path / "1"))
    answer = served.signatures["serving_default"](
        query=tf.constant([text, "1"])
    )
    assert answer["status"].numpy().tolist() == [b"not_finite", b"ok"]
    assert answer["identifiers"][0].numpy().tolist() == [b"", b""]
    np.testing.assert_array_equal(answer["scores"], [[0, 0], [5, 5]])


class Padded(tf.Module):
    """Answers one thing, and that there are no more."""

    k = 2

    def __call__(self, inputs, k):
        rows = tf.shape(inputs)[0]
        names = tf.tile([[7, -1]], [rows, 1])
        return tf.tile([[0.5, -np.inf]], [rows, 1])[:, :k], names[:, :k]


def test_no_more_answers_are_no_error(tmp_path):
    serving.export_search(
        tmp_path / "1", make_encode(tf.float32), Padded(), default_k=2
    )
    served = tf.saved_model.load(str(tmp_path / "1"))
    answer = served.signatures["serving_default"](query=tf.constant(["1"]))
    assert answer["status"].numpy().tolist() == [b"ok"]
    assert answer["identifiers"].numpy().tolist() == [[7, -1]]
    assert answer["scores"].numpy().tolist() == [[0.5, 0.0]]
