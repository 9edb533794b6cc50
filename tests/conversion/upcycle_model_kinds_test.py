"""Upcycling of Functional and Sequential models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe.conversion import upcycle
from tests.conversion.upcycle_case import DIM
from tests.conversion.upcycle_case import HIDDEN
from tests.conversion.upcycle_case import assert_equal_outputs
from tests.conversion.upcycle_case import data
from tests.conversion.upcycle_case import pair
from tests.conversion.upcycle_case import sparse_layers
from tests.conversion.upcycle_case import stack


def test_masks_reach_the_sparse_layer():
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, DIM, mask_zero=True)(ids)
    x = pair(x, "pair")
    x = layers.FeedForward(HIDDEN, name="ffn")(x)
    dense = keras.Model(ids, x)
    sparse = upcycle(dense, 3, moe_every=1)
    tokens = np.array([[3, 4, 5, 0], [1, 0, 0, 0]])
    left, right = np.asarray(sparse(tokens)), np.asarray(dense(tokens))
    real = tokens > 0
    np.testing.assert_allclose(left[real], right[real], atol=1e-5)
    assert not left[~real].any()


def test_blocks_keep_their_other_sublayers():
    x = inputs = keras.Input((None, DIM))
    for index in range(2):
        x = layers.EncoderBlock(
            layers.T5Attention(2, 3),
            layers.FeedForward(HIDDEN, use_bias=True, name="feed_forward"),
            dropout_rate=0.1,
            name=f"block_{index}",
        )(x)
    dense = keras.Model(inputs, x)
    sparse = upcycle(dense, 4)
    assert isinstance(
        sparse.get_layer("block_0").feed_forward, layers.FeedForward
    )
    assert isinstance(
        sparse.get_layer("block_1").feed_forward, layers.SparseMoE
    )
    assert_equal_outputs(sparse, dense, data(2, 5))


def test_decoder_blocks_stay_causal():
    x = keras.Input((None, DIM), name="x")
    memory = keras.Input((None, DIM), name="memory")
    block = layers.DecoderBlock(
        layers.T5Attention(2, 3),
        layers.T5Attention(2, 3),
        layers.FeedForward(HIDDEN),
        name="block",
    )
    dense = keras.Model([x, memory], block(x, memory))
    sparse = upcycle(dense, 4)
    assert sparse.get_layer("block").feed_forward.causal
    assert_equal_outputs(sparse, dense, [data(2, 5), data(2, 3)])
    with pytest.raises(ValueError, match="must not look at later tokens"):
        upcycle(dense, 4, "expert_choice")


def test_nested_and_shared_models():
    shared = stack(depth=1)
    inner = keras.Sequential(
        [
            keras.Input((None, DIM)),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(DIM, name="ffn"),
            keras.layers.LayerNormalization(),
        ],
        name="inner",
    )
    inputs = {"a": keras.Input((None, DIM), name="a")}
    x = shared(inner(shared(inputs["a"])))
    dense = keras.Model(inputs, {"out": x}, name="outer")
    sparse = upcycle(dense, 4, moe_every=1)
    assert len(sparse_layers(sparse)) == 2
    assert sparse.name == "outer"
    assert [layer.name for layer in sparse.layers] == [
        layer.name for layer in dense.layers
    ]
    x = {"a": data(2, 5)}
    np.testing.assert_allclose(
        sparse(x)["out"], dense(x)["out"], rtol=1e-5, atol=1e-5
    )


def test_sequential_models_stay_sequential():
    dense = keras.Sequential(
        [
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dense(DIM),
            keras.layers.Dense(1, name="head"),
        ],
        name="mlp",
    )
    x = data(8)
    dense(x)
    sparse = upcycle(dense, 2)
    assert isinstance(sparse, keras.Sequential) and sparse.name == "mlp"
    assert [type(layer) for layer in sparse.layers] == [
        layers.SparseMoE,
        keras.layers.Dense,
    ]
    assert_equal_outputs(sparse, dense, x)


def test_what_was_adapted_to_data_comes_along():
    words = np.array([["b", "a", "b"], ["c", "b", "c"]])
    lookup = keras.layers.StringLookup(name="lookup")
    lookup.adapt(words)
    norm = keras.layers.Normalization()
    norm.adapt(3 * data(50) + 1)
    text = keras.Input((None,), dtype="string")
    x = norm(keras.layers.Embedding(9, DIM)(lookup(text)))
    x = keras.layers.BatchNormalization()(pair(x, "ffn"))
    dense = keras.Model(text, x)
    moving = dense.layers[-1].moving_mean
    moving.assign(np.random.normal(size=DIM))
    sparse = upcycle(dense, 3)
    x = tf.constant(words)
    assert_equal_outputs(sparse, dense, x)
    assert sparse.get_layer("lookup").get_vocabulary() == (
        lookup.get_vocabulary()
    )


def test_functional_models_may_be_subclassed():
    class Wrapped(keras.Model):
        def __init__(self, depth):
            graph = stack(depth)
            super().__init__(graph.inputs, graph.outputs)

    dense = Wrapped(2)
    sparse = upcycle(dense, 3)
    assert_equal_outputs(sparse, dense, data(2, 4))
