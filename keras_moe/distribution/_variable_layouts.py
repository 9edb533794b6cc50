"""Where each variable of a training lies on a mesh."""

from collections.abc import Mapping

import keras

from keras_moe.keras_internals import flatten_layers
from keras_moe.layers.moe._experts import Experts
from keras_moe.types import Axes
from keras_moe.weights._named_state import MODEL
from keras_moe.weights._named_state import OPTIMIZER


def axes_of_variables(
    variables: Mapping[str, keras.Variable],
    model: keras.Model,
    layout_map: keras.distribution.LayoutMap,
    axis_sizes: Mapping[str, int],
) -> dict[str, Axes]:
    """Returns the mesh axes along which the axes of variables lie.

    What an optimizer keeps of a weight, in its shape, lies where the weight
    does. What matches nothing is whole on each device, metrics among it.

    Args:
        variables: of `named_state`.
        model: whose they are.
        layout_map: patterns of Keras's variable paths to layouts.
        axis_sizes: mesh axis to number of devices along it.

    Raises:
        ValueError: if a kernel of experts matches no layout or a weight
            several; if a layout has another rank; if a size is not divisible.
    """
    kernels = {
        id(bank.kernel)
        for layer in flatten_layers(model)
        if isinstance(layer, Experts)
        for bank in layer.banks
    }
    axes_of: dict[str, Axes] = {}
    for name, variable in variables.items():
        whole: Axes = (None,) * len(variable.shape)
        if name.startswith(MODEL):
            layout = layout_map[variable.path]
            if layout is None and id(variable) in kernels:
                raise ValueError(
                    "`layout_map` must have a layout for the kernels of "
                    f"experts. Received: none for {variable.path!r}; it has "
                    f"{list(layout_map.keys())}."
                )
            axes = whole if layout is None else tuple(layout.axes)
            _check(variable, axes, axis_sizes)
            axes_of[name] = _present(axes, axis_sizes)
        elif name.startswith(OPTIMIZER):
            weight = _weight_of(name)
            same = weight in variables and (
                variables[weight].shape == variable.shape
            )
            axes_of[name] = axes_of[weight] if same else whole
        else:
            axes_of[name] = whole
    return axes_of


def _weight_of(name: str) -> str:
    """Returns what `named_state` calls the weight of a slot."""
    return name.removeprefix(OPTIMIZER).rpartition("/")[0]


def _present(axes: Axes, axis_sizes: Mapping[str, int]) -> Axes:
    return tuple(
        axis if axis and axis_sizes[axis] > 1 else None for axis in axes
    )


def _check(
    variable: keras.Variable, axes: Axes, axis_sizes: Mapping[str, int]
) -> None:
    shape = tuple(variable.shape)
    if len(axes) != len(shape):
        raise ValueError(
            f"The layout of {variable.path!r} must have {len(shape)} axes, as "
            f"its shape {shape} has. Received: {axes}."
        )
    for size, axis in zip(shape, axes, strict=True):
        if axis and size % axis_sizes[axis]:
            raise ValueError(
                f"{variable.path!r} cannot lie along {axes}: {size} is not "
                f"divisible by the {axis_sizes[axis]} devices along {axis!r}. "
                f"Received: shape={shape}."
            )
