"""How the weights of layers lie, as the layers' own tables say."""

from collections.abc import Iterator
from collections.abc import Mapping

import keras

from keras_moe.distribution._kernel_companions import companions
from keras_moe.types import Axes
from keras_moe.types import LayoutTable
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._named_weights import named_weights

# Mark at the end of a table's entry: the layer may lack this weight.
_OPTIONAL = "?"


def axes_of_tables(model: keras.layers.Layer) -> dict[int, Axes]:
    """Returns the axes of all weights that a layer's table names.

    Args:
        model: built.

    Returns:
        `id` of a variable to its axes. Where several tables name a weight, the
        one of the outermost layer counts.

    Raises:
        ValueError: if a layer with a table is not built, or its table has an
            entry that does not fit.
    """
    axes_of: dict[int, Axes] = {}
    for layer, _, _ in named_layers(model):
        table = getattr(layer, "LAYOUT", None)
        if table is None:
            continue
        _check_table(layer, table)
        for variable, axes in _resolve(layer, table):
            axes_of.setdefault(id(variable), axes)
    return axes_of


def _check_table(layer: keras.layers.Layer, table: object) -> None:
    if not isinstance(table, Mapping):
        raise ValueError(
            "`LAYOUT` must be a dictionary of names of weights to mesh axes. "
            f"Received: {type(layer).__name__}.LAYOUT={table!r}."
        )
    if not layer.built:
        raise ValueError(
            "`model` must be built, with all its layers: call it on data "
            f"first. Received: a {type(layer).__name__} {layer.name!r} that is "
            "not built."
        )


def _resolve(
    layer: keras.layers.Layer, table: LayoutTable
) -> Iterator[tuple[keras.Variable, Axes]]:
    """Yields variables and their axes: the table's entries come first."""
    weights = named_weights(layer)
    owners = {name: owner for owner, name, _ in named_layers(layer)}
    beside: dict[str, Axes] = {}
    for entry, axes in table.items():
        if not isinstance(entry, str):
            _refuse(layer, entry, "is no name")
        name = entry.removesuffix(_OPTIONAL)
        variable = weights.get(name)
        if variable is None:
            if entry == name:
                _refuse(layer, entry, f"has no such weight: {[*weights]}")
            continue
        below, _, own = name.rpartition("/")
        _check_packing(owners.get(below), variable, axes)
        if not isinstance(axes, tuple) or len(axes) != len(variable.shape):
            _refuse(layer, entry, f"has shape {tuple(variable.shape)}: {axes}")
        named = [axis for axis in axes if axis is not None]
        if not all(isinstance(a, str) and named.count(a) == 1 for a in named):
            _refuse(layer, entry, f"must name different mesh axes: {axes}")
        yield variable, axes
        prefix = f"{below}/" if below else ""
        for other, its_axes in companions(owners[below], own, axes).items():
            beside[prefix + other] = its_axes
    for name, axes in beside.items():
        # A bias that several layers share is named after the first of them.
        if name in weights:
            yield weights[name], axes


def _check_packing(
    owner: keras.layers.Layer | None, variable: keras.Variable, axes: object
) -> None:
    """Raises `ValueError` if int4 has put several axes into one."""
    mode = getattr(owner, "quantization_mode", None)
    if mode in (None, "int8", "float8") or not isinstance(axes, tuple):
        return
    if len(axes) != len(variable.shape):
        raise ValueError(
            "`model` must be in floating point or int8 to lie along "
            f"{axes}: other modes pack a kernel's axes into one. Received: "
            f"{variable.path!r} in {mode!r}, of shape {tuple(variable.shape)}."
        )


def _refuse(layer: keras.layers.Layer, entry: object, why: str) -> None:
    raise ValueError(
        "`LAYOUT` must map the names of a layer's weights, as "
        "`keras_moe.weights.named_weights(layer)` has them, to a tuple of a "
        "mesh axis or None for each axis of the weight. Received: the entry "
        f"{entry!r} of {type(layer).__name__} {layer.name!r}, which {why}."
    )
