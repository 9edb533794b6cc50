import numpy as np
import tensorflow as tf

from keras_moe.ops import shift_right


def test_shifts_and_forgets_the_last():
    targets = np.array([[5, 6, 1], [7, 1, 0]], "int32")
    np.testing.assert_array_equal(shift_right(targets), [[0, 5, 6], [0, 7, 1]])
    np.testing.assert_array_equal(
        shift_right(targets, start_id=9)[:, 0], [9, 9]
    )


def test_unknown_shape():
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)])
    def shifted(targets):
        return shift_right(targets, 3)

    np.testing.assert_array_equal(shifted([[4, 5]]), [[3, 4]])
    np.testing.assert_array_equal(shifted([[4]]), [[3]])
