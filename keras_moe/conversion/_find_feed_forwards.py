"""Finds the feed-forward networks of a model."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import keras

from keras_moe.conversion import _dense_pair as dense_pair
from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.conversion._hidden_pair import call_of
from keras_moe.conversion._hidden_pair import hidden_pair
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import DecoderBlock
from keras_moe.layers import EncoderBlock
from keras_moe.layers import FeedForward


class Findings(NamedTuple):
    """What a search found.

    Attributes:
        sites: the feed-forward networks, from the input on.
        doubtful: pairs of dense layers that fit but may be meant otherwise:
            `upcycle` takes them only by name.
        skipped: name and reason of what is doubtful or cannot be converted.
    """

    sites: tuple[FeedForwardSite, ...]
    doubtful: tuple[FeedForwardSite, ...]
    skipped: dict[str, str]


def find_feed_forwards(model: keras.Model) -> Findings:
    """Finds what `keras_moe.conversion.upcycle` can make sparse.

    That is: each `keras_moe.layers.FeedForward`, alone or in a
    `keras_moe.layers.EncoderBlock` or `DecoderBlock`; and two `Dense` layers
    of which the second leads back to the size that the first came from, with
    an activation between them, with or without dropout, and nobody else who
    sees what is between; and two `Dense` layers in a block that has them as
    attributes with the names of KerasHub's, if the block computes with them
    what a feed-forward network does, which is tried on a copy of it. What other
    layers do with layers inside them is not known, nor what a subclassed model
    does. Such layers are in `skipped`.

    Args:
        model: a Functional or Sequential model, nested or not, built.

    Returns:
        A tuple with the fields `sites`, `doubtful` and `skipped`. A site has
        a `name`: the layer's (of two `Dense` layers the second's), after the
        names of the models that it is nested in, `"encoder/block_1"`.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((6,)),
    ...     keras.layers.Dense(24, activation="gelu"),
    ...     keras.layers.Dropout(0.1),
    ...     keras.layers.Dense(6, name="ffn"),
    ...     keras.layers.Dense(1),
    ... ])
    >>> found = keras_moe.conversion.find_feed_forwards(model)
    >>> [site.name for site in found.sites]
    ['ffn']
    """
    if not is_graph(model):
        kind = type(model).__name__
        unknown = f"what a {kind} consists of is not known: it is subclassed"
        return Findings((), (), {model.name: unknown})
    sites: list[FeedForwardSite] = []
    pairs: list[FeedForwardSite] = []
    calls: Counter[int] = Counter()
    order: dict[int, int] = {}
    skipped: dict[str, str] = {}
    for prefix, part, layer in _layers(model):
        order.setdefault(id(layer), len(order))
        if layer is part:
            calls.update(dense_pair.uses(part))
        elif type(layer) is keras.layers.Dense and layer.built:
            pair = dense_pair.following_pair(part, layer, prefix)
            if pair is not None:
                pairs.append(pair)
        else:
            network = layer
            if isinstance(layer, EncoderBlock | DecoderBlock):
                network = layer.feed_forward
            if isinstance(network, FeedForward) and network.built:
                name = prefix + layer.name
                sites.append(
                    FeedForwardSite.of_feed_forward(name, layer, network)
                )
            elif _hides_dense_layers(layer):
                name = prefix + layer.name
                site = hidden_pair(layer, call_of(part, layer), name)
                if site is not None:
                    sites.append(site)
                    continue
                skipped[prefix + layer.name] = (
                    f"what a {type(layer).__name__} does with the `Dense` "
                    "layers inside it is not known"
                )
    doubtful: list[FeedForwardSite] = []
    ends = Counter(id(end) for p in pairs for end in (p.inner, p.outer))
    for pair in pairs:
        problem = dense_pair.problem(pair, calls)
        doubt = None
        if pair.activation is keras.activations.linear:
            doubt = "there is no activation between the two: name it"
        elif ends[id(pair.inner)] > 1 or ends[id(pair.outer)] > 1:
            doubt = "it shares a layer with another pair: name one of them"
        reason = problem or doubt
        if reason is not None:
            skipped[pair.name] = reason
        if problem is None:
            (doubtful if doubt else sites).append(pair)
    sites.sort(key=lambda site: order[id(site.layer)])
    return Findings(tuple(sites), tuple(doubtful), skipped)


def _hides_dense_layers(layer: keras.layers.Layer) -> bool:
    """Whether two `Dense` layers or more lie inside a layer of others'."""
    if type(layer).__module__.startswith("keras_moe."):
        return False
    inside = flatten_layers(layer, include_self=False)
    return sum(type(part) is keras.layers.Dense for part in inside) > 1


def is_functional(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a model made from symbolic inputs and outputs."""
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def is_graph(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a model whose layers and their calls are known."""
    return isinstance(layer, keras.Sequential) or is_functional(layer)


def _layers(
    model: keras.Model, prefix: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, keras.Model, keras.layers.Layer]]:
    """Yields each model, itself first, and its layers; each model once."""
    seen = set() if seen is None else seen
    if id(model) in seen:
        return
    seen.add(id(model))
    yield prefix, model, model
    for layer in model.layers:
        if is_graph(layer):
            yield from _layers(layer, f"{prefix}{layer.name}/", seen)
        else:
            yield prefix, model, layer
