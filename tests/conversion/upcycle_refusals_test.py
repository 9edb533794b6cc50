"""What cannot be upcycled says why."""

import gc

import keras
import pytest

from keras_moe import layers
from keras_moe import models
from keras_moe.conversion import upcycle
from tests.conversion.upcycle_case import DIM
from tests.conversion.upcycle_case import assert_equal_outputs
from tests.conversion.upcycle_case import data
from tests.conversion.upcycle_case import stack
from tests.conversion.upcycle_case import tiny_transformer


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.ffn = layers.FeedForward(4)

    def call(self, inputs):
        return self.ffn(inputs)


class Block(keras.layers.Layer):
    """As the blocks of KerasHub's models: a network in its `call`."""

    def __init__(self):
        super().__init__(name="block")
        self.parts = [keras.layers.Dense(4, "relu"), keras.layers.Dense(DIM)]

    def call(self, inputs):
        return inputs + self.parts[1](self.parts[0](inputs))


def of_blocks():
    inputs = keras.Input((DIM,))
    return keras.Model(inputs, Block()(inputs))


def unbuilt():
    return keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(4)])


def quantized():
    gc.freeze()
    model = stack(1)
    model.quantize("int8")
    return model


def without():
    inputs = keras.Input((DIM,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (Subclassed, {}, "`dense` must be a dense .* subclassed"),
        (unbuilt, {}, "must be built"),
        (quantized, {}, "must not be quantised.*int8"),
        (without, {}, "None was found"),
        (of_blocks, {}, "Not taken: block: what a Block does with the `Dense`"),
        (stack, {"num_experts": 0}, "`num_experts` must be a positive"),
        (stack, {"moe_every": 0}, "`moe_every` must be a positive"),
        (stack, {"noise": -1.0}, "`noise` must not be negative"),
        (stack, {"expert_dropout_rate": 1.0}, "`expert_dropout_rate` must"),
        (stack, {"router": "swich"}, "`router` must be one of"),
        (stack, {"router": 3}, "`router` must be a name"),
        (stack, {"blocks": []}, "must name at least one"),
        (stack, {"blocks": [2]}, r"in \[0, 2\).*Received: 2"),
        (stack, {"blocks": ["ffn"]}, "one of .*'ffn_0'.*no network"),
        (stack, {"blocks": [("ffn_0", "ffn_1")]}, "no network has"),
        (tiny_transformer, {"blocks": [1]}, "`blocks` must be None"),
        (tiny_transformer, {"moe_every": 4}, "must leave a block"),
    ],
)
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_what_cannot_be_upcycled(make, kwargs, message):
    with pytest.raises(ValueError, match=message):
        upcycle(make(), **{"num_experts": 2, **kwargs})


def test_a_sparse_transformer_is_sparse_already():
    sparse = models.SwitchTransformer.from_preset("switch_tiny")
    with pytest.raises(ValueError, match="no experts yet.*num_experts=4"):
        upcycle(sparse, 4)


def test_pairs_that_share_a_layer_exclude_each_other():
    x = inputs = keras.Input((DIM,))
    for size, name in ((9, "a"), (DIM, "b"), (9, "c")):
        x = keras.layers.Dense(size, name=name)(x)
    dense = keras.Model(inputs, x)
    assert_equal_outputs(upcycle(dense, 2, blocks=["b"]), dense, data(4))
    with pytest.raises(ValueError, match="share a layer"):
        upcycle(dense, 2, blocks=["b", "c"])
