"""A model with random features in the place of softmax attention."""

from typing import Any

import keras

from keras_moe.conversion._replace_attention import replace_attention
from keras_moe.layers import RandomFeatureAttention


def linear_attention(dense: keras.Model, **settings: Any) -> keras.Model:
    """Makes a model whose attention is linear in length, with equal weights.

    Each `keras.layers.MultiHeadAttention` and `GroupQueryAttention` becomes a
    `keras_moe.layers.RandomFeatureAttention` of its name and projections; all
    other layers are copied. Features are fitted to no data yet: train the
    model, or `adapt` each layer; a warning names those that will be too noisy
    on normalised inputs. The model itself is not touched.

    Attention inside of other layers' `call`, and in subclassed models, is not
    found: make it by `RandomFeatureAttention.from_multi_head_attention`.

    Args:
        dense: a Functional or Sequential model, nested or not, built.
        **settings: arguments of `RandomFeatureAttention`, for all layers.

    Returns:
        The new model, not compiled.

    Raises:
        ValueError: if `dense` is another kind of model, is not built, or has no
            such layer; or if a layer has or is called with what random features
            cannot serve, such as an `attention_mask`.

    Example:

    >>> inputs = keras.Input((None, 16))
    >>> attended = keras.layers.MultiHeadAttention(4, 4)(inputs, inputs)
    >>> model = keras.Model(inputs, keras.layers.Add()([inputs, attended]))
    >>> linear = keras_moe.conversion.linear_attention(
    ...     model, num_random_features=128
    ... )
    >>> linear.layers[1].name == model.layers[1].name
    True
    """
    return replace_attention(
        dense,
        lambda layer: RandomFeatureAttention.from_multi_head_attention(
            layer, **settings
        ),
    )
