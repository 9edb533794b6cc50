"""Whole models with random features in the place of softmax."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_moe
from keras_moe.conversion import linear_attention
from keras_moe.layers import RandomFeatureAttention

DIM = 8


def block(name):
    inputs = keras.Input((None, DIM))
    attention = keras.layers.GroupQueryAttention(4, 4, 2, name="attention")
    x = keras.layers.Add()([inputs, attention(inputs, inputs)])
    return keras.Model(inputs, keras.layers.LayerNormalization()(x), name=name)


def make(causal):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(20, DIM, mask_zero=True)(ids)
    shared = block("block")
    x = shared(shared(x))
    attention = keras.layers.MultiHeadAttention(2, 4, name="last")
    x = attention(x, x, use_causal_mask=causal)
    return keras.Model(ids, keras.layers.Dense(3)(x))


@pytest.mark.filterwarnings("ignore:.*relative_variance")
def test_nested_and_shared_layers_keep_their_weights():
    """What is computed exactly equals the model's own outputs."""
    dense = make(causal=False)
    linear = linear_attention(dense, exact_below=100)
    kept = linear.get_layer("block")
    assert isinstance(kept.get_layer("attention"), RandomFeatureAttention)
    assert isinstance(linear.get_layer("last"), RandomFeatureAttention)
    ids = np.arange(1, 31).reshape(2, 15) % 19 + 1
    ids[0, 10:] = 0
    real = ids > 0
    np.testing.assert_allclose(
        np.asarray(linear(ids))[real], np.asarray(dense(ids))[real], atol=1e-5
    )
    # Both places of the block are one layer, whose weights are the copy's own.
    assert sum(layer.name == "block" for layer in linear.layers) == 1
    before = dense.get_weights()
    for weight in linear.weights:
        weight.assign(weight + 1)
    for weight, value in zip(dense.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.filterwarnings("ignore:.*relative_variance")
def test_calls_keep_their_causality():
    ids = keras.Input((6, DIM))
    attention = keras.layers.MultiHeadAttention(2, 4)
    dense = keras.Model(ids, attention(ids, ids, use_causal_mask=True))
    linear = linear_attention(dense)
    x = np.random.default_rng(0).normal(size=(1, 6, DIM)).astype("float32")
    y = x.copy()
    y[:, 4:] += 1
    np.testing.assert_array_equal(linear(x)[:, :4], linear(y)[:, :4])
    assert np.any(np.asarray(linear(x) - linear(y))[:, 4:])


def test_says_what_it_cannot_see():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="must be a Functional .* subclassed"):
        linear_attention(Subclassed())
    inputs = keras.Input((4, DIM))
    plain = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"in its graph.*Dense"):
        linear_attention(plain)
    mask = keras.Input((4, 4))
    layer = keras.layers.MultiHeadAttention(2, 4)
    masked = layer(inputs, inputs, attention_mask=mask)
    with pytest.raises(ValueError, match="could mask"):
        linear_attention(keras.Model([inputs, mask], masked))


def test_the_guide_runs():
    guide = pathlib.Path(__file__).parents[2] / "docs/long_sequences.md"
    names = {"keras": keras, "keras_moe": keras_moe}
    for block in re.findall(r"```python\n(.*?)```", guide.read_text(), re.S):
        exec(block, names)
    x = np.random.default_rng(0).normal(size=(1, 5, 64)).astype("float32")
    np.testing.assert_allclose(names["linear"](x), names["model"](x), atol=1e-5)
    assert names["layer"].exact_below == 512
