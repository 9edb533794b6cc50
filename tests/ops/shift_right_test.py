import numpy as np
import pytest
import tensorflow as tf

from keras_moe.ops import shift_right


def test_shifts_and_forgets_the_last():
    targets = np.array([[5, 6, 1], [7, 1, 0]], "int32")
    np.testing.assert_array_equal(shift_right(targets), [[0, 5, 6], [0, 7, 1]])
    np.testing.assert_array_equal(
        shift_right(targets, start_id=9)[:, 0], [9, 9]
    )


def test_unknown_shape():
    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int64)], autograph=False
    )
    def shifted(targets):
        return shift_right(targets, 3)

    np.testing.assert_array_equal(shifted([[4, 5]]), [[3, 4]])
    np.testing.assert_array_equal(shifted([[4]]), [[3]])


def test_a_label_left_out_becomes_padding():
    targets = np.array([[5, -100, -100]])
    np.testing.assert_array_equal(shift_right(targets), [[0, 5, 0]])
    np.testing.assert_array_equal(
        shift_right(targets, 1, pad_id=7), [[1, 5, 7]]
    )
    with pytest.raises(ValueError, match="`targets` must be ids"):
        shift_right(targets, ignore_id=None)
