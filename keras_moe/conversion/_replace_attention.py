"""A copy of a model, with other layers where its attention was."""

from collections.abc import Callable
from collections.abc import Collection
from typing import Any

import keras

from keras_moe.conversion._find_feed_forwards import is_graph
from keras_moe.conversion._transfer_weights import copy_assets

_EXACT = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def replace_attention(
    dense: keras.Model,
    convert: Callable[[keras.layers.Layer], keras.layers.Layer],
    names: Collection[str] | None = None,
) -> keras.Model:
    """Returns a model of which softmax attention is converted, the rest copied.

    Args:
        dense: a Functional or Sequential model, nested or not, built.
        convert: gives a layer, with its weights, in place of a
            `keras.layers.MultiHeadAttention` or `GroupQueryAttention`.
        names: of the layers to convert; `None` for all.

    Raises:
        ValueError: if `dense` is another kind of model, is not built, or has no
            such layer, or none of one of the names.
    """
    if not is_graph(dense) or not dense.built:
        raise ValueError(
            "`dense` must be a Functional or Sequential model that is built: "
            "what a subclassed model consists of is not known. Received: "
            f"dense={dense!r}."
        )
    copies: dict[int, keras.layers.Layer] = {}
    plain: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
    converted: list[str] = []

    def copy(layer: Any) -> Any:
        # A layer that is used twice is one layer in the copy, too.
        if id(layer) not in copies:
            copies[id(layer)] = new_copy(layer)
        return copies[id(layer)]

    def new_copy(layer: Any) -> Any:
        if isinstance(layer, _EXACT) and (names is None or layer.name in names):
            converted.append(layer.name)
            return convert(layer)
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
