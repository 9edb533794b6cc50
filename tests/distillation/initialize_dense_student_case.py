"""Sparse teachers, and dense students of the same shape."""

import keras
import numpy as np

from keras_moe import layers
from keras_moe.keras_internals import flatten_layers
from keras_moe.models import SwitchTransformer

DIM, HIDDEN, EXPERTS = 6, 10, 3
# Attributes of experts to names of layers, in paths.
PARTS = {"inner": "wi", "outer": "wo"}


def transformer(**sizes):
    model = SwitchTransformer.from_preset("switch_tiny", **sizes)
    for weight in model.weights:  # ones and zeros are no evidence
        weight.assign(np.random.normal(size=weight.shape))
    return model


def dense(**sizes):
    return transformer(num_experts=0, **sizes)


def by_path(model):
    """By names of Keras: those of layers here are all given."""
    return {
        weight.path.removeprefix(f"{model.name}/"): weight.numpy()
        for weight in model.weights
    }


def sparse_sites(model):
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, layers.SparseMoE)
    ]


def ids():
    tokens = np.random.randint(2, 32, (4, 5))
    return {"encoder_token_ids": tokens, "decoder_token_ids": tokens}


def functional(kind, name="network"):
    """Two networks between layers; the first is sparse in a teacher."""
    x = inputs = keras.Input((None, DIM))
    first = layers.FeedForward(HIDDEN, use_bias=True, name="first")
    x = keras.layers.Add()([x, first(x)])
    if kind == "sparse":
        second = layers.SparseMoE(
            EXPERTS, HIDDEN, use_bias=True, router="switch", name=name
        )
    else:
        second = layers.FeedForward(HIDDEN, use_bias=True, name=name)
    x = keras.layers.Add()([x, second(x)])
    model = keras.Model(inputs, keras.layers.Dense(4, name="head")(x))
    for weight in model.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return model


def counted(*kinds):
    """A stack of networks whose names are left to Keras."""
    x = inputs = keras.Input((None, DIM))
    for kind in kinds:
        if kind == "sparse":
            x = layers.SparseMoE(EXPERTS, HIDDEN, name="sparse_moe")(x)
        else:
            x = layers.FeedForward(HIDDEN)(x)
    return keras.Model(inputs, x)
