"""Sources that are ragged or sparse are refused in one sentence."""

import pytest
import tensorflow as tf

from keras_moe.generation import decode
from keras_moe.models import SwitchTransformer

RAGGED = tf.ragged.constant([[2, 3, 1], [4, 1]], dtype=tf.int32)


@pytest.mark.parametrize("token_ids", [RAGGED, RAGGED.to_sparse()])
def test_refused(token_ids):
    model = SwitchTransformer.from_preset("switch_tiny")
    for call in (
        lambda: model.generate(token_ids, max_length=3),
        lambda: decode(model, token_ids, max_length=3),
    ):
        with pytest.raises(ValueError, match="must be dense.* of type"):
            call()
