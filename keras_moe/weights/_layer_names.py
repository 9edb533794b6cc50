"""Names of a model's layers, by where they lie in it."""

import re
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras

from keras_moe.keras_internals import sublayers

# Goes into checkpoints and fingerprints. To be raised when any variable gets
# another name: a file from before is then refused, and the error says why.
NAMING = 2


class NamedLayer(NamedTuple):
    """A layer and its two names.

    Attributes:
        layer: the layer.
        name: unique in the model, the same in every process; "" for the model.
        path: names of the layers that contain it and its own, the model's
            first, as Keras counts them.
    """

    layer: keras.layers.Layer
    name: str
    path: str


def named_layers(model: keras.Model) -> Iterator[NamedLayer]:
    """Yields a model and all layers in it, each once, owners first.

    A layer that lies in several places is named after the first of them.

    Args:
        model: built.
    """
    yield from _walk(model, "", model.name, {id(model)})


def named_sublayers(
    layer: keras.layers.Layer,
) -> dict[str, keras.layers.Layer]:
    """Names the layers that a layer owns itself, each by its last name.

    Args:
        layer: any.
    """
    taken: set[str] = set()
    return {
        make_unique(_name_below(layer, child), taken): child
        for child in sublayers(layer)
    }


def stable_name(named: Any) -> str:
    """Returns the name of an object without what Keras counts.

    Keras numbers what has no name of its own (`dense`, `dense_1`, ...), and
    goes on counting for as long as the process lives.

    Args:
        named: a layer, a metric, a variable or an optimizer.
    """
    return _without_count(named.name, type(named))


def earlier_name(name: str) -> str:
    """Returns what a variable was called before layers had today's names.

    A `SparseMoE` without a name of its own was a `sparse_mo_e`: Keras took
    each capital for a word.

    Args:
        name: of a variable, as in a checkpoint.
    """
    return re.sub(r"(?<![^/])sparse_moe(?=[/#])", "sparse_mo_e", name)


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


def _without_count(name: str, named: type) -> str:
    base = re.sub(r"_\d+$", "", name)
    # Keras makes the name out of the class's. A name like `layer_1` or
    # `block_0` of any other class is the user's and kept whole.
    own = re.sub(r"[\W_]", "", named.__name__).lower()
    return base if base.replace("_", "") == own else name


def _name_below(owner: keras.layers.Layer, child: keras.layers.Layer) -> str:
    # `Bidirectional` puts these words before the counted names of its layers,
    # which would otherwise look like the user's: `forward_lstm_3`.
    if isinstance(owner, keras.layers.Bidirectional):
        for word in ("forward_", "backward_"):
            if child.name.startswith(word):
                rest = child.name.removeprefix(word)
                return word + _without_count(rest, type(child))
    return stable_name(child)


def _walk(
    layer: keras.layers.Layer, name: str, path: str, seen: set[int]
) -> Iterator[NamedLayer]:
    yield NamedLayer(layer, name, path)
    # A child that was visited before keeps its place in the numbering: skipping
    # it would make its siblings' names depend on where else it is used.
    for own, child in named_sublayers(layer).items():
        if id(child) not in seen:
            seen.add(id(child))
            below = f"{name}/{own}" if name else own
            yield from _walk(child, below, f"{path}/{child.name}", seen)
