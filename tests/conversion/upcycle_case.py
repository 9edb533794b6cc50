"""Dense models for the tests of upcycling."""

import keras
import numpy as np

from keras_moe import layers
from keras_moe import models
from keras_moe.keras_internals import flatten_layers

DIM, HIDDEN = 6, 10


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def pair(x, name, activation="gelu", use_bias=(True, True), dropout=0.0):
    x = keras.layers.Dense(
        HIDDEN,
        activation=activation,
        use_bias=use_bias[0],
        bias_initializer="normal",
        name=f"{name}_in",
    )(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(
        DIM, use_bias=use_bias[1], bias_initializer="normal", name=name
    )(x)


def stack(depth=2, **kwargs):
    """A residual stack of networks `ffn_0`, `ffn_1`, ..."""
    x = inputs = keras.Input((None, DIM), name="inputs")
    for index in range(depth):
        x = keras.layers.Add()([x, pair(x, f"ffn_{index}", **kwargs)])
    return keras.Model(inputs, x, name="stack")


def sparse_layers(model):
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, layers.SparseMoE)
    ]


def assert_equal_outputs(sparse, dense, x, **kwargs):
    np.testing.assert_allclose(
        sparse(x, **kwargs), dense(x, **kwargs), rtol=1e-5, atol=1e-5
    )


def tiny_transformer(**kwargs):
    return models.SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, num_encoder_layers=3, **kwargs
    )
