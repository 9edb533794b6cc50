"""Names of a model's layers, by where they lie in it."""

import re
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras

from keras_moe.keras_internals import sublayers


class NamedLayer(NamedTuple):
    """A layer and its two names.

    Attributes:
        layer: the layer.
        name: unique in the model, the same in every process; "" for the model.
        path: names of the layers down to it, the model's first, as their user
            knows them.
    """

    layer: keras.layers.Layer
    name: str
    path: str


def named_layers(model: keras.Model) -> Iterator[NamedLayer]:
    """Yields a model and all layers in it, owners first.

    A layer that lies in several places is named after the first of them.

    Args:
        model: built.
    """
    yield from _walk(model, "", model.name, {id(model)})


def stable_name(named: Any) -> str:
    """Returns the name of an object without what Keras counts.

    Keras numbers what has no name of its own (`dense`, `dense_1`, ...), and
    goes on counting for as long as the process lives.

    Args:
        named: a layer, a metric, a variable or an optimizer.
    """
    base = re.sub(r"_\d+$", "", named.name)
    # As `to_snake_case` of Keras makes one out of the other.
    for cls in type(named).__mro__:
        if base.replace("_", "") == re.sub(r"[\W_]", "", cls.__name__).lower():
            return base
    return named.name


def make_unique(name: str, taken: set[str]) -> str:
    """Returns `name`, with a number if it is taken, and takes it.

    Args:
        name: as wanted.
        taken: names that are in use.
    """
    unique, number = name, 0
    while unique in taken:
        number += 1
        unique = f"{name}#{number}"
    taken.add(unique)
    return unique


def _walk(
    layer: keras.layers.Layer, name: str, path: str, seen: set[int]
) -> Iterator[NamedLayer]:
    yield NamedLayer(layer, name, path)
    taken: set[str] = set()
    for child in sublayers(layer):
        # Named in any case: whether it was met before must not change the
        # names of its siblings.
        own = make_unique(stable_name(child), taken)
        if id(child) not in seen:
            seen.add(id(child))
            below = f"{name}/{own}" if name else own
            yield from _walk(child, below, f"{path}/{child.name}", seen)
