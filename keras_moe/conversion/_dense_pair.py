"""Two `Dense` layers in a row that make a feed-forward network."""

from collections import Counter

import keras

from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.keras_internals import functional_nodes
from keras_moe.keras_internals import stored_kernel


def following_pair(
    model: keras.Model, first: keras.layers.Dense, prefix: str
) -> FeedForwardSite | None:
    """Returns the pair that begins with `first`, if one does.

    The second layer leads back to the size that the first came from and has
    no activation; between them lie at most an `Activation` and a `Dropout`,
    and nobody else sees what is between.
    """
    between: list[keras.layers.Layer] = []
    allowed: list[type] = [keras.layers.Activation, keras.layers.Dropout]
    second = next_layer(model, first)
    while second is not None and type(second) in allowed:
        del allowed[: allowed.index(type(second)) + 1]
        between.append(second)
        second = next_layer(model, second)
    if second is None or type(second) is not keras.layers.Dense:
        return None
    if not second.built:
        return None
    if stored_kernel(first).shape[0] != second.units:
        return None
    if second.activation is not keras.activations.linear:
        return None
    rate = 0.0
    activations = [first.activation]
    for layer in between:
        if isinstance(layer, keras.layers.Dropout):
            rate = layer.rate
        else:
            activations.append(layer.activation)
    return FeedForwardSite(
        name=prefix + second.name,
        layer=second,
        inner=first,
        outer=second,
        gate=None,
        activation=_compose(activations),
        dropout_rate=rate,
        removed=(first, *between),
    )


def next_layer(
    model: keras.Model, layer: keras.layers.Layer
) -> keras.layers.Layer | None:
    """Returns the one layer that sees the output of `layer`, if it is one."""
    if isinstance(model, keras.Sequential):
        index = [id(other) for other in model.layers].index(id(layer)) + 1
        return model.layers[index] if index < len(model.layers) else None
    calls = [
        node for node in functional_nodes(model) if node.operation is layer
    ]
    if len(calls) != 1:
        return None
    (output,) = calls[0].outputs
    if any(tensor is output for tensor in model.outputs):
        return None
    consumers = [
        node
        for node in functional_nodes(model)
        for tensor in node.input_tensors
        if tensor is output
    ]
    if len(consumers) != 1 or len(consumers[0].input_tensors) != 1:
        return None
    return consumers[0].operation


def uses(model: keras.Model) -> Counter[int]:
    """Counts, by the layer's `id`, the calls of each layer in one graph."""
    if isinstance(model, keras.Sequential):
        return Counter(id(layer) for layer in model.layers)
    return Counter(id(node.operation) for node in functional_nodes(model))


def problem(site: FeedForwardSite, calls: Counter[int]) -> str | None:
    """Says why a pair cannot be made sparse, if it cannot."""
    if any(calls[id(layer)] > 1 for layer in (*site.removed, site.layer)):
        return "a layer of it is used more than once"
    if site.activation is None:
        return "it has two activations, one after the other"
    if site.inner.dtype_policy.name != site.outer.dtype_policy.name:
        return "its layers have different dtype policies"
    for name in (
        "kernel_regularizer",
        "bias_regularizer",
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
    ):
        if any(getattr(layer, name) for layer in (site.inner, site.outer)):
            return f"experts have no {name}"
    if any(getattr(layer, "noise_shape", None) for layer in site.removed):
        return "experts have no noise_shape"
    return None


def _compose(activations: list):
    """Returns the one activation that is not linear; `None` for two."""
    linear = keras.activations.linear
    active = [function for function in activations if function is not linear]
    if len(active) > 1:
        return None
    return active[0] if active else linear
