"""A model with trees in the place of softmax attention, layer by layer."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_moe.conversion._replace_attention import replace_attention
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import TreeAttention


def tree_attention(
    dense: keras.Model, names: Sequence[str] | None = None, **settings: Any
) -> keras.Model:
    """Makes a model of which some attention layers go by trees.

    Each named `keras.layers.MultiHeadAttention` becomes a
    `keras_moe.layers.TreeAttention` of its name and projections; all other
    layers are copied, those that were converted before included. As in the
    paper, convert the top layer, train, let it `grow`, and go on with the next.
    The model itself is not touched.

    Source: following [Treeformer, Madaan et al., 2022](
    https://arxiv.org/abs/2208.09015), section 3.3.

    Args:
        dense: a Functional or Sequential model, nested or not, built.
        names: names of the layers; `None` for all.
        **settings: arguments of `TreeAttention`, such as `height`.

    Returns:
        The new model, not compiled.

    Raises:
        ValueError: if `dense` is another kind of model, is not built, has no
            layer of one of the names; or if a layer has or is called with what
            a tree cannot serve, such as an `attention_mask`.

    Example:

    >>> x = inputs = keras.Input((None, 16))
    >>> for name in ("lower", "upper"):
    ...     x = keras.layers.MultiHeadAttention(2, 8, name=name)(x, x)
    >>> model = keras.Model(inputs, x)
    >>> for name in ("upper", "lower"):
    ...     model = keras_moe.conversion.tree_attention(
    ...         model, [name], height=3, grown_height=1
    ...     )
    ...     # Train here; then let the tree grow, and train again.
    ...     model.get_layer(name).grow()
    2
    2
    """
    found = {layer.name for layer in _attention_layers(dense)}
    missing = [name for name in names or () if name not in found]
    if missing:
        raise ValueError(
            "`names` must be those of layers of `keras.layers."
            f"MultiHeadAttention`: {sorted(found)}. Received: {missing}."
        )
    return replace_attention(
        dense,
        lambda layer: TreeAttention.from_multi_head_attention(
            layer, **settings
        ),
        names,
    )


def _attention_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, keras.layers.MultiHeadAttention)
    ]
