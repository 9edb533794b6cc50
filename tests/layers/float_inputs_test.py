"""Ids where states belong."""

import keras
import numpy as np
import pytest

from keras_moe import layers

IDS = np.ones([2, 4, 3], "int32")
SYMBOLIC = keras.Input([4, 3], dtype="int32")


STATES = np.ones([2, 4, 3], "float32")
SYMBOLIC_STATES = keras.Input([4, 3])


def encoder_block():
    return layers.EncoderBlock(layers.T5Attention(2, 4), layers.FeedForward(8))


def decoder_block():
    attentions = [layers.T5Attention(2, 4) for _ in range(2)]
    return layers.DecoderBlock(*attentions, layers.FeedForward(8))


@pytest.mark.parametrize("ids", [IDS, SYMBOLIC], ids=["eager", "symbolic"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.SparseMoE(4, 8),
        lambda: layers.FeedForward(8),
        encoder_block,
        lambda: layers.TopKRouter(4),
        lambda: layers.ExpertChoiceRouter(4),
        lambda: layers.SoftRouter(4),
        lambda: layers.LocalityHashRouter(4),
    ],
)
def test_ids_are_no_states(make, ids):
    with pytest.raises(ValueError, match="`inputs` must be floating-point.*32"):
        make()(ids)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: layers.RandomFeatureAttention(2, 4, 8), ("query", "value")),
        (lambda: layers.T5Attention(2, 4), ("query", "value")),
        (decoder_block, ("inputs", "memory")),
    ],
)
@pytest.mark.parametrize(
    ("ids", "states"), [(IDS, STATES), (SYMBOLIC, SYMBOLIC_STATES)]
)
def test_ids_are_neither_queries_nor_keys(make, names, ids, states):
    for name, inputs in zip(names, ((ids, states), (states, ids)), strict=True):
        with pytest.raises(
            ValueError, match=f"`{name}` must be floating-point.*32"
        ):
            make()(*inputs)
