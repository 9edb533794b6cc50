"""Private names of layers."""

from typing import Any

import keras
from keras.src.utils import naming

from keras_moe.types import Tensor


def flatten_layers(
    layer: keras.layers.Layer, include_self: bool = True
) -> list[keras.layers.Layer]:
    """Returns a layer and all layers below it, each before its sublayers.

    Stands for `Layer._flatten_layers()`. The public `layers` of models leaves
    out layers within layers, such as the experts in a block. A layer that is
    used twice comes once. Siblings come in an order of Keras's own.

    Args:
        layer: any.
        include_self: whether the layer itself comes first.
    """
    return layer._flatten_layers(include_self=include_self)


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers right below a layer, in the order they were made.

    Stands for `Layer._flatten_layers(include_self=False, recursive=False)`.
    Names of weights in checkpoints go by this order. A layer that is an
    attribute twice comes once.

    Args:
        layer: any.
    """
    return layer._flatten_layers(include_self=False, recursive=False)


def own_losses(layer: keras.layers.Layer) -> list[Tensor]:
    """Returns the losses that a layer's last call added by `add_loss`.

    Stands for `Layer._get_own_losses()`. The public `losses` adds those of
    sublayers and of regularisers, so that a loss that is not finite could not
    be traced to its layer.

    Args:
        layer: any that was called.
    """
    return layer._get_own_losses()


def count_name(name: str) -> str:
    """Returns a name that no layer has yet: itself, or with a number.

    Stands for `keras.src.utils.naming.uniquify`. Keras calls a layer without a
    name after its class, and takes each capital for a word.

    Args:
        name: as wanted.
    """
    return naming.uniquify(name)


def stored_kernel(layer: keras.layers.Layer) -> Any:
    """Returns the `keras.Variable` that holds a layer's kernel, `None` if none.

    Stands for `_kernel` of `Dense` and `EinsumDense`. The public `kernel` is
    not the variable under LoRA: it is a tensor with the two factors merged, and
    under int8 and LoRA it raises.

    Args:
        layer: any.
    """
    return getattr(layer, "_kernel", None)


def replace_sublayer(layer: keras.layers.Layer, name: str, value: Any) -> None:
    """Puts something else where a layer has a sublayer, built or not.

    Stands for `Layer._tracker`, which keeps sublayers and refuses new ones
    once a layer is built.

    Args:
        layer: any.
        name: of the attribute.
        value: another layer, or a function that is called like it.
    """
    tracker = layer._tracker
    locked = tracker.locked
    tracker.unlock()
    tracker.untrack(getattr(layer, name))
    delattr(layer, name)
    setattr(layer, name, value)
    if locked:
        tracker.lock()


def take_call_signature(
    layer: keras.layers.Layer, other: keras.layers.Layer
) -> None:
    """Has Keras take the arguments of a layer for those of another.

    Stands for `Layer._call_signature` and what Keras notes of it. A `call` with
    `**kwargs` would not be given `training`, and could not be given tensors and
    settings at once.

    Args:
        layer: whose `call` hands all that it is given to `other`.
        other: any.
    """
    for name in (
        "_call_signature",
        "call_signature_parameters",
        "_call_has_training_arg",
        "_call_has_mask_arg",
        "_call_has_context_arg",
    ):
        setattr(layer, name, getattr(other, name))


def query_projection(
    attention: keras.layers.MultiHeadAttention,
) -> keras.layers.EinsumDense:
    """Returns the layer that makes the queries of Keras's attention.

    Stands for `MultiHeadAttention._query_dense`, which has no public name. Only
    the projections show whether attention is quantised.

    Args:
        attention: built.
    """
    return attention._query_dense


def functional_nodes(model: keras.Model) -> list[Any]:
    """Returns the calls of layers that make up a Functional model.

    Stands for `Functional._nodes_by_depth`. The same layers may have other
    calls in another model. The order of the calls means nothing.

    Args:
        model: Functional.
    """
    levels = model._nodes_by_depth
    return [node for level in levels.values() for node in level]
