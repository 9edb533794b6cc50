"""Masks that symbolic tensors had, and lost before a layer that needs them."""

import warnings
from collections.abc import Iterable
from typing import Any

import keras
from keras import tree

from keras_moe.keras_internals import get_mask
from keras_moe.keras_internals import sublayers
from keras_moe.keras_internals import symbolic_call
from keras_moe.types import Tensor


def warn_of_lost_mask(
    layer: keras.layers.Layer, x: Tensor, *masks: Tensor | None
) -> None:
    """Warns where a layer gets no mask because an operation has lost it.

    Keras's layers hand masks on, its operations do not: `x + y` of symbolic
    tensors has none, and padding counts as tokens from there on. The history of
    symbolic tensors tells, that is, while a Functional or Sequential model is
    put together; nothing is known in the `call` of a subclassed model.

    Args:
        layer: one that heeds masks.
        x: its input.
        *masks: what it was given that tells padding.
    """
    if any(mask is not None for mask in (*masks, get_mask(x))):
        return
    operation = find_lost_mask(x)
    if operation is None:
        return
    warnings.warn(
        f"{type(layer).__name__} `{layer.name}` gets no mask, and padding is "
        f"taken for tokens: {type(operation).__name__} `{operation.name}` had "
        "a masked tensor and hands no mask on. Layers do, such as "
        "`keras.layers.Add()([x, y])` for `x + y`; or call the layer with its "
        "mask.",
        stacklevel=3,
    )


def find_lost_mask(x: Tensor) -> keras.Operation | None:
    """Returns what lost the mask of a symbolic tensor; `None` if none was lost.

    Layers that support masks decide about them, and may end them: pooling has
    none to give. Layers that do not, and have layers inside, may hand on the
    mask of one of these when they run, which cannot be known beforehand.

    Args:
        x: without a mask.
    """
    pending, seen = [x], set()
    while pending:
        tensor = pending.pop()
        call = symbolic_call(tensor)
        if call is None or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, args, kwargs = call
        sources = [
            source
            for source in _sources(tensor, operation, args, kwargs)
            # One that has other positions has a mask that would not fit.
            if source.shape[:-1] == x.shape[:-1]
        ]
        if all(get_mask(source) is None for source in sources):
            pending += sources
        elif not isinstance(operation, keras.layers.Layer):
            return operation
        elif not operation.supports_masking and not sublayers(operation):
            return operation
    return None


def _sources(
    output: Tensor,
    operation: keras.Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Iterable[Tensor]:
    """Returns inputs whose positions are those of the output.

    Masks of layers come from the first argument. So they do for operations,
    whose other arguments may be attended to, or looked up in; unless they work
    element by element, as `+` does.
    """
    everything = _symbolic((args, kwargs))
    if not isinstance(operation, keras.layers.Layer) and all(
        _broadcasts(source.shape, output.shape) for source in everything
    ):
        return everything
    return _symbolic(args[0] if args else next(iter(kwargs.values()), None))


def _symbolic(structure: Any) -> list[Tensor]:
    flat = tree.flatten(structure)
    return [each for each in flat if keras.utils.is_keras_tensor(each)]


def _broadcasts(shape: tuple, to: tuple) -> bool:
    aligned = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(
        size in (1, other) for size, other in zip(shape, aligned, strict=True)
    )
