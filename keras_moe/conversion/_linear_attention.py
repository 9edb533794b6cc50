"""A model with random features in the place of softmax attention."""

from typing import Any

import keras

from keras_moe.conversion._find_feed_forwards import is_graph
from keras_moe.conversion._transfer_weights import copy_assets
from keras_moe.layers import RandomFeatureAttention

_EXACT = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


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
    if not is_graph(dense) or not dense.built:
        raise ValueError(
            "`dense` must be a Functional or Sequential model that is built: "
            "what a subclassed model consists of is not known. Received: "
            f"dense={dense!r}."
        )
    copies: dict[int, keras.layers.Layer] = {}
    plain: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
    converted: list[RandomFeatureAttention] = []

    def copy(layer: Any) -> Any:
        # A layer that is used twice is one layer in the copy, too.
        if id(layer) not in copies:
            copies[id(layer)] = new_copy(layer)
        return copies[id(layer)]

    def new_copy(layer: Any) -> Any:
        if isinstance(layer, _EXACT):
            made = RandomFeatureAttention.from_multi_head_attention(
                layer, **settings
            )
            converted.append(made)
            return made
        if is_graph(layer):
            return keras.models.clone_model(layer, clone_function=copy)
        made = type(layer).from_config(layer.get_config())
        if isinstance(layer, keras.layers.Layer):  # not a bare operation
            plain.append((layer, made))
        return made

    model = new_copy(dense)
    if not converted:
        raise ValueError(
            "`dense` must have a `keras.layers.MultiHeadAttention` or "
            "`GroupQueryAttention` in its graph; those inside of other layers "
            f"are not found. Received: {dense.name!r}, with the layers "
            f"{sorted({type(layer).__name__ for layer in dense.layers})}."
        )
    for old, new in plain:
        new.set_weights(old.get_weights())
        copy_assets(old, new)
    return model
