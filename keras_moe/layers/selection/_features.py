"""What counts as one feature: a column, several columns, or a named input."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size

# Name and number of columns of each group.
Groups = Sequence[tuple[str, int]]


def read_groups(groups: Any) -> list[tuple[str, int]] | None:
    """Returns groups as a config holds them.

    Args:
        groups: pairs, or a mapping, of names and numbers of columns; or `None`.

    Raises:
        ValueError: if one is named twice, or has no columns.
    """
    if groups is None:
        return None
    pairs = groups.items() if isinstance(groups, Mapping) else groups
    read = [(str(name), size) for name, size in pairs]
    for name, size in read:
        if size is None:
            raise ValueError(f"`groups[{name!r}]` must be a number of columns.")
        check_size(**{f"groups[{name!r}]": size})
    check_unique("groups", [name for name, _ in read])
    return [(name, int(size)) for name, size in read]


def check_unique(argument: str, names: Iterable[Any]) -> None:
    """Raises `ValueError` if one comes twice.

    Args:
        argument: its name.
        names: of it.
    """
    names = list(names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise ValueError(
            f"`{argument}` must be some, all different. Received: "
            f"{', '.join(map(repr, repeated)) or 'none'} "
            f"{'twice' if repeated else ''}".rstrip()
            + "."
        )


def column_groups(input_shape: Shape, groups: Groups | None) -> np.ndarray:
    """Returns the number of the feature that each column belongs to.

    Args:
        input_shape: `(..., columns)`.
        groups: as `read_groups` returns them.

    Raises:
        ValueError: if the columns are not as many as the groups have, or
            unknown.
    """
    columns = input_shape[-1]
    if columns is None or len(input_shape) < 2:
        raise ValueError(
            "Inputs must have a known number of columns, (..., columns). "
            f"Received: input_shape={tuple(input_shape)}."
        )
    if groups is None:
        return np.arange(columns, dtype="int32")
    sizes = [size for _, size in groups]
    if sum(sizes) != columns:
        raise ValueError(
            f"`groups` must have the {columns} columns of the inputs. "
            f"Received: groups of {sum(sizes)}."
        )
    return np.repeat(np.arange(len(sizes), dtype="int32"), sizes)


def check_built(layer: keras.layers.Layer) -> None:
    """Raises `ValueError` unless a layer knows its features."""
    if not layer.built:
        raise ValueError(
            "The layer does not know its features yet: call it on data first, "
            f"or `adapt` it. Received: {layer.name!r}, which is not built."
        )


def multiply(x: Tensor, attention: Tensor) -> Tensor:
    """Returns a feature times its attention; 0 without, whatever it holds."""
    # Masked before the product: 0 times NaN, here or in a gradient, is NaN.
    x = ops.where(attention > 0, x, ops.zeros_like(x))
    return x * ops.cast(attention, x.dtype)
