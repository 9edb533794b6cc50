"""One label for each position."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.losses import token_crossentropy

LOGITS = np.zeros([2, 4, 9], "float32")


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (1, 4), (2,), (2, 4, 1)])
def test_other_shapes_are_refused(shape):
    # One label for a sequence would count as one for each position.
    labels = np.ones(shape, "int32")
    with pytest.raises(ValueError, match=r"`labels` must .* \(2, 4\).*\.shape"):
        token_crossentropy(labels, LOGITS)


def test_what_is_not_known_may_fit():
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def loss(labels):
        return token_crossentropy(labels, LOGITS)

    assert np.isfinite(loss(tf.ones([2, 4], tf.int32)))
