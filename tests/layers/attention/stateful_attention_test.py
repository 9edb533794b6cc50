"""The contract of attention with a state, and who fulfils it."""

import keras
import numpy as np
import pytest

from keras_moe.generation._in_place_cache import InPlaceCache
from keras_moe.layers import AttentionCache
from keras_moe.layers import DecoderBlock
from keras_moe.layers import EncoderBlock
from keras_moe.layers import FeedForward
from keras_moe.layers import KeyValueCache
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import StatefulAttention
from keras_moe.layers import T5Attention


def features(**options):
    return RandomFeatureAttention(2, 4, 16, **options)


def data(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("make", [lambda: T5Attention(2, 4), features])
def test_fulfils(make):
    assert isinstance(make(), StatefulAttention)


@pytest.mark.parametrize("cache", [KeyValueCache, InPlaceCache])
def test_caches_fulfil(cache):
    state = T5Attention(2, 4).init_state(3, 5, cache)
    assert isinstance(state, AttentionCache)
    assert not isinstance(features(causal=True).init_state(3), AttentionCache)


# === Biases ===


def test_random_features_refuse_a_bias():
    layer, x = features(causal=True), data(1, 3, 8)
    message = "no scores that `bias` could be added to.*Received: bias of type"
    bias = np.zeros((2, 3, 3), "float32")
    layer(x, x, bias=None)
    with pytest.raises(ValueError, match=message):
        layer(x, x, bias=bias)
    with pytest.raises(ValueError, match=message):
        symbolic = keras.Input((3, 8))
        layer(symbolic, symbolic, bias=keras.Input(batch_shape=(2, 3, 3)))
    with pytest.raises(ValueError, match=message):
        layer.step(x, layer.init_state(1), bias=bias)
    layer.step(x, layer.init_state(1), bias=None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EncoderBlock(features(), FeedForward(16)),
        lambda: DecoderBlock(
            features(causal=True), features(), FeedForward(16)
        ),
    ],
)
def test_blocks_hand_a_bias_on(make):
    block, x = make(), data(1, 3, 8)
    inputs = (x, x) if isinstance(block, DecoderBlock) else (x,)
    block(*inputs)
    with pytest.raises(ValueError, match="no scores that `bias`"):
        block(*inputs, bias=np.zeros((2, 3, 3), "float32"))


# === Refusals ===


class Stateless(keras.layers.Layer):
    """Attends to all positions at once, and only so."""

    def call(self, query, value, **options):
        return query


def test_a_decoder_block_refuses_attention_without_a_state():
    message = (
        "`cross_attention` must be StatefulAttention: it lacks `init_state`, "
        "`step`, `remember`, `encode_memory`, `attend_to_memory`. Received: "
        "cross_attention of type Stateless."
    )
    with pytest.raises(ValueError, match=message):
        DecoderBlock(T5Attention(2, 4), Stateless(), FeedForward(16))


@pytest.mark.parametrize("max_length", [None, 0, 2.5])
def test_attention_over_all_positions_must_know_their_number(max_length):
    message = f"`max_length` must be .*Received: max_length={max_length}"
    with pytest.raises(ValueError, match=message):
        T5Attention(2, 4).init_state(3, max_length)
