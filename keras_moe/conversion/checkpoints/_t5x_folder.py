"""The tensors in a directory that T5X wrote."""

import pathlib
from typing import Any

from keras_moe.conversion.checkpoints._flax_msgpack import PackedArray
from keras_moe.conversion.checkpoints._flax_msgpack import leaves
from keras_moe.conversion.checkpoints._flax_msgpack import read_tree
from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor
from keras_moe.conversion.checkpoints._zarr_tensor import open_zarr

FILE = "checkpoint"
_PLACEHOLDER = "PLACEHOLDER://"
_SPEC = {"driver", "kvstore"}


def open_t5x(directory: pathlib.Path) -> dict[str, StoredTensor]:
    """Names the tensors of a model; reads none of the large ones.

    The optimizer's state is left where it is.

    Args:
        directory: `checkpoint_N`, with the file `checkpoint` and, beside it,
            a directory in zarr's format for each large tensor.

    Raises:
        ValueError: if there is no such file; if it names something outside of
            the directory; if a tensor's files are not what its header says.
        ModuleNotFoundError: without `msgpack`.
    """
    tree = read_tree(_find(directory))
    target: Any = tree
    for key in ("optimizer", "target"):
        target = target.get(key) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ValueError(
            f"`{FILE}` must hold `optimizer/target`, the weights. Received: "
            f"{', '.join(sorted(tree)[:5]) or 'an empty tree'}."
        )
    return {
        name: _open(directory, name, value)
        for name, value in leaves(target, lambda value: set(value) >= _SPEC)
    }


def _find(directory: pathlib.Path) -> pathlib.Path:
    path = directory / FILE
    if path.is_file():
        return path
    below = sorted(directory.glob(f"checkpoint_*/{FILE}"))
    hint = f", but {below[-1].parent.name} in it does" if below else ""
    raise ValueError(
        f"`directory` must hold the file {FILE}. Received: {directory}, which "
        f"does not{hint}."
    )


def _open(directory: pathlib.Path, name: str, value: Any) -> StoredTensor:
    if isinstance(value, PackedArray):
        values = value.values(name)
        return StoredTensor(values.shape, values.dtype, values.__getitem__)
    return open_zarr(directory / _place(name, value))


def _place(name: str, value: Any) -> str:
    """Returns the directory that a leaf names. All else it says is not used.

    A reader that follows it could be made to read from anywhere.
    """
    place = value
    if isinstance(value, dict):
        kvstore = value["kvstore"]
        path = kvstore.get("path") if isinstance(kvstore, dict) else None
        place = value.get("path") if path is None else path
        if value["driver"] != "zarr":
            raise ValueError(
                f"`{name}` must be stored as zarr. Received: "
                f"{value['driver']!r}."
            )
    elif isinstance(value, str) and value.startswith(_PLACEHOLDER):
        place = value.removeprefix(_PLACEHOLDER)
    if not isinstance(place, str) or (not isinstance(value, str | dict)):
        raise ValueError(
            f"`{name}` must be an array, or the name of one. Received: "
            f"{type(value).__name__}."
        )
    place = place.removesuffix("/")
    if place in ("", ".", "..") or pathlib.PurePath(place).name != place:
        raise ValueError(
            f"`{name}` must name a directory beside {FILE}. Received: "
            f"{place!r}."
        )
    return place
