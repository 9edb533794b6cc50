"""Ids where states belong."""

import keras
import numpy as np
import pytest

from keras_moe.layers import FeedForward
from keras_moe.layers import SparseMoE

IDS = np.ones([2, 4, 3], "int32")
SYMBOLIC = keras.Input([4, 3], dtype="int32")


@pytest.mark.parametrize(
    ("layer", "ids"),
    [
        (SparseMoE(4, 8), IDS),
        (SparseMoE(4, 8), SYMBOLIC),
        (FeedForward(8), IDS),
    ],
)
def test_ids_are_no_states(layer, ids):
    with pytest.raises(ValueError, match="`inputs` must be floating-point.*32"):
        layer(ids)
