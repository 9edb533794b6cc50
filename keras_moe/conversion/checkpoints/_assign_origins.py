"""Weights get the values of a checkpoint, some rows at a time."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping

import keras
import numpy as np

from keras_moe.conversion.checkpoints._origin import Origin
from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor
from keras_moe.keras_internals import backend_variable
from keras_moe.weights._dtypes import to_dtype

Progress = Callable[[str, tuple[str, ...]], None]


def check_origins(
    weights: Mapping[str, keras.Variable],
    origins: Mapping[str, Origin],
    tensors: Mapping[str, StoredTensor],
) -> None:
    """Makes sure that every weight is set, and every tensor used, once.

    Args:
        weights: of a model, by name; they need not have values yet.
        origins: of each weight.
        tensors: by name.

    Raises:
        ValueError: if a weight or a tensor is missing or left over, or a shape
            differs.
    """
    _check_names(weights, origins, tensors)
    _check_shapes(weights, origins, tensors)


def assign_origins(
    weights: Mapping[str, keras.Variable],
    origins: Mapping[str, Origin],
    tensors: Mapping[str, StoredTensor],
    progress: Progress | None = None,
) -> None:
    """Gives every weight its values, after `check_origins`.

    `keras_moe.weights.transfer` assigns a weight as a whole, which takes three
    times its memory beside it.

    Args:
        weights: of a model, by name.
        origins: of each weight.
        tensors: by name.
        progress: called with the name of each weight, before it is read, and
            the names of its tensors.

    Raises:
        ValueError: if a value is too large for the dtype of its weight.
    """
    for name, origin in origins.items():
        if progress is not None:
            progress(name, origin.names)
        variable = weights[name]
        chunks = origin.chunks(tensors)
        _assign(variable, (to_dtype(name, c, variable.dtype) for c in chunks))


def _check_names(
    weights: Mapping[str, keras.Variable],
    origins: Mapping[str, Origin],
    tensors: Mapping[str, StoredTensor],
) -> None:
    wanted = {name for origin in origins.values() for name in origin.names}
    problems = {
        "missing": wanted - set(tensors),
        "unexpected": set(tensors) - wanted,
        "not set": set(weights) ^ set(origins),
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{problem}: {_list(names)}" for problem, names in problems.items()
        )
        raise ValueError(
            "The checkpoint must hold the tensors of the model that its config "
            f"describes. Received, {listed}."
        )


def _check_shapes(
    weights: Mapping[str, keras.Variable],
    origins: Mapping[str, Origin],
    tensors: Mapping[str, StoredTensor],
) -> None:
    wrong = []
    for name, origin in origins.items():
        first = tensors[origin.names[0]]
        unlike = {
            f"{other} {tensors[other].shape}"
            for other in origin.names
            if tensors[other].shape != first.shape
        }
        if origin.shape(tensors) != tuple(weights[name].shape) or unlike:
            wrong.append(
                f"{origin.names[0]} {first.shape} for {name} "
                f"{tuple(weights[name].shape)}"
            )
            wrong += unlike
    if wrong:
        raise ValueError(
            "The checkpoint must hold tensors of the shapes that its config "
            f"describes. Received: {_list(wrong)}."
        )


def _list(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:5]) or "none"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _assign(variable: keras.Variable, chunks: Iterator[np.ndarray]) -> None:
    """Sets a variable's rows, on TensorFlow in place."""
    value = backend_variable(variable)
    spread = keras.distribution.distribution() is not None
    if spread or not hasattr(value, "scatter_nd_update"):
        variable.assign(np.concatenate(list(chunks)))
        return
    start = 0
    for chunk in chunks:
        rows = np.arange(start, start + len(chunk))
        value.scatter_nd_update(rows[:, np.newaxis], chunk)
        start += len(chunk)
    # Else TensorFlow copies the whole variable at each read from now on: a
    # decoder would do so at each token.
    import tensorflow as tf

    tf.raw_ops.DisableCopyOnRead(resource=value.handle)
