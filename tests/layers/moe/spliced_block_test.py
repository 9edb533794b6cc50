import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.keras_internals import set_mask
from tests.conversion.hidden_block_case import EncoderLike
from tests.conversion.hidden_block_case import T5Like
from tests.conversion.upcycle_case import DIM
from tests.conversion.upcycle_case import HIDDEN
from tests.conversion.upcycle_case import data
from tests.layers.layer_test_case import run_layer_test

PARTS = {
    "inner": "_feedforward_intermediate_dense",
    "outer": "_feedforward_output_dense",
}


def settings(feed_forward=None):
    return {
        "block": EncoderLike(),
        "feed_forward": feed_forward or layers.FeedForward(HIDDEN),
        "parts": PARTS,
    }


def test_contract():
    run_layer_test(
        layers.SplicedBlock,
        settings(),
        input_shape=(2, 3, DIM),
        expected_output_shape=(2, 3, DIM),
        expected_num_trainable_weights=4,
        expected_num_non_trainable_weights=0,
        supports_masking=True,
        run_training_check=False,
        run_mixed_precision_check=False,
    )


def test_the_dense_layers_are_gone():
    layer = layers.SplicedBlock(**settings())
    layer.build((None, None, DIM))
    assert len(layer.weights) == 4  # of the norm, and of the network
    with pytest.raises(ValueError, match="already built"):
        layer.block.another = layers.FeedForward(HIDDEN)


@keras.saving.register_keras_serializable("spliced_block_test")
class Seen(keras.layers.Layer):
    """A feed-forward network that keeps the mask it was given."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, mask=None):
        self.masks = [*getattr(self, "masks", []), mask]
        return x


@pytest.mark.parametrize("given", ["padding_mask", "attention_mask", "input"])
def test_padding_is_known_to_the_network(given):
    real = np.array([[True, True, False]])
    x = keras.ops.convert_to_tensor(data(1, 3))
    if given == "attention_mask":
        parts = {
            "inner": "input_projector",
            "outer": "output_projector",
            "gate": "gate_projector",
            "dropout": "dropout_layer",
        }
        layer = layers.SplicedBlock(T5Like(), Seen(), parts)
        layer(x, attention_mask=real[:, None], use_causal_mask=True)
        layer(x, attention_mask=np.ones((1, 1, 7)))  # of a cache: not its own
        assert layer.feed_forward.masks.pop() is None
    else:
        layer = layers.SplicedBlock(EncoderLike(), Seen(), PARTS)
        if given == "input":
            set_mask(x, keras.ops.convert_to_tensor(real))
            layer(x)
        else:
            layer(x, padding_mask=real.astype("int32"))
    (mask,) = layer.feed_forward.masks
    np.testing.assert_array_equal(mask, real)


def test_parts_have_names():
    with pytest.raises(ValueError, match="`parts` must name 'inner' and"):
        layers.SplicedBlock(**settings() | {"parts": {"inner": "a"}})
