"""The file in which Flax keeps a tree of arrays: msgpack, and nothing runs."""

import dataclasses
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

# The arrays of T5X lie beside the file. One larger than this holds the model
# itself, and reading it as a whole would take its memory twice.
_MAX_BYTES = 1 << 28
_NDARRAY = 1  # Flax's code of an array
_DTYPES: dict[str, Any] = {
    "float64": "float64",
    "float32": "float32",
    "float16": "float16",
    "bfloat16": ml_dtypes.bfloat16,
}


@dataclasses.dataclass(frozen=True)
class PackedArray:
    """An array in the file, not yet looked at.

    Attributes:
        code: Flax's, of what it is.
        data: the bytes of it.
    """

    code: int
    data: bytes

    def values(self, name: str) -> np.ndarray:
        """Returns the array.

        Args:
            name: for the message of an error.

        Raises:
            ValueError: if it is no array of floats, or not as long as it says.
        """
        try:
            shape, dtype, data = _unpack(self.data)
            shape = tuple(int(size) for size in shape)
            kind = np.dtype(_DTYPES[dtype])
            if self.code != _NDARRAY:
                raise ValueError("a number")
            return np.frombuffer(data, kind).reshape(shape)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"`{name}` must be an array of floats, {', '.join(_DTYPES)}, "
                f"as long as its shape says. Received: {error}."
            ) from error


def read_tree(path: pathlib.Path) -> Mapping[str, Any]:
    """Reads the file; arrays are `PackedArray`.

    Raises:
        ValueError: if it is not such a file, or has a name twice.
        ModuleNotFoundError: without `msgpack`.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(
            f"`{path.name}` must name its arrays, which lie beside it. "
            f"Received: {size:,} bytes, so that it holds them."
        )
    raw = path.read_bytes()
    if raw.startswith(b"model_checkpoint_path"):
        raise ValueError(
            f"`{path.name}` must be T5X's. Received: TensorFlow's; "
            "`load_mesh_tensorflow` reads such a checkpoint by its prefix."
        )
    try:
        tree = _unpack(raw)
    except (ValueError, import_msgpack().UnpackException) as error:
        raise ValueError(
            f"`{path.name}` must be a whole msgpack file. Received: {error!r}."
        ) from error
    if not isinstance(tree, dict):
        raise ValueError(
            f"`{path.name}` must hold a tree. Received: {type(tree).__name__}."
        )
    return tree


def leaves(tree: Mapping[str, Any], is_leaf: Any) -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a tree by their paths, `"encoder/norm/scale"`."""
    # No recursion: a file can be deeper than Python's stack.
    left: list[tuple[str, Any]] = [("", tree)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict) and not is_leaf(value):
            left += [
                (f"{path}/{key}" if path else key, child)
                for key, child in value.items()
            ]
        else:
            yield path, value


def _unpack(data: bytes) -> Any:
    return import_msgpack().unpackb(
        data,
        raw=False,
        strict_map_key=True,
        object_pairs_hook=_unique,
        ext_hook=PackedArray,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    wrong = [key for key in found if not isinstance(key, str) or "/" in key]
    if wrong:
        raise ValueError(f"no name can be {wrong[0]!r}")
    return found


def import_msgpack() -> ModuleType:
    """Returns `msgpack`, of the extra `[t5x]`."""
    try:
        import msgpack
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "`keras_moe.conversion.load_t5x` needs msgpack. Install it with "
            "`pip install keras-moe[t5x]`."
        ) from error
    return msgpack
