import types

import numpy as np
import pytest

from keras_moe.distillation._batch import padding_mask
from keras_moe.distillation.teachers._teacher_logits import _used


@pytest.mark.parametrize("left_out", [9, -100])
def test_labels_left_out_are_padding(left_out):
    labels = np.array([[5, left_out, 6, left_out]])
    outputs = np.zeros((1, 4, 10))
    mask = padding_mask({}, labels, outputs, 9, types.SimpleNamespace())
    np.testing.assert_array_equal(mask, [[True, False, True, False]])
    assert _used(labels[0], 9) == 3
