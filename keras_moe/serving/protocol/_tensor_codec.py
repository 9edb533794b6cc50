"""`TensorProto` to NumPy and back, fast, and safe against hostile requests.

`tf.make_ndarray` trusts its input (a shape of a billion with one value is
expanded) and `tf.make_tensor_proto` is slow and packs numbers into
`tensor_content`, which clients that read `float_val` do not see. TensorFlow
Serving fills the typed fields; so does this module.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2

from keras_moe.serving.protocol import _status_codes as status_codes

# The field of `TensorProto` that holds the values of each dtype.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_STRING: "string_val",
}
_NUMPY = {enum: np.dtype(tf.as_dtype(enum).as_numpy_dtype) for enum in _FIELDS}
_ENUMS = {dtype: enum for enum, dtype in _NUMPY.items()}
MAX_AXES = 64  # NumPy's limit
_NUMBERS = (bool, int, float, np.generic)
# Characters of a value that a message shows.
_SHOWN = 100
# Two-byte floats travel as the integers that their bits spell.
_AS_BITS = (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Turns an array of `str` or `bytes` into an object array of `bytes`."""
    flat = np.empty(array.size, dtype=object)
    for index, value in enumerate(array.ravel().tolist()):
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, bytes):
            raise ValueError(
                "A string tensor must hold `str` or `bytes`. "
                f"Received: {value!r} (of type {type(value).__name__})"
            )
        flat[index] = value
    return flat.reshape(array.shape)


def as_array(value: Any, dtype: np.dtype | None = None) -> np.ndarray:
    """Makes an array as TensorFlow would: `1.0` is float32, `1` is int32.

    Args:
        value: array, Python number or string, or nested lists of them.
        dtype: what a value that names no dtype of its own is to become.

    Raises:
        ValueError: the value is neither strings nor numbers, or does not fit.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        return to_bytes(array) if array.dtype.kind in "SUO" else array
    # NumPy's own string arrays would lose zeros at the end of a string.
    array = np.asarray(value, dtype=object)
    if any(isinstance(item, (str, bytes)) for item in array.flat):
        return to_bytes(array)
    if not all(isinstance(item, _NUMBERS) for item in array.flat):
        return to_bytes(array)  # which names what is neither
    numbers = np.asarray(value)
    if dtype is None or dtype.kind == "O":
        # Integers beyond all of NumPy's make an array of objects.
        kind = "i" if numbers.dtype.kind == "O" else numbers.dtype.kind
        narrow = {"f": np.float32, "i": np.int32, "u": np.int32}.get(kind)
        dtype = np.dtype(narrow) if narrow else numbers.dtype
    return _cast(numbers, dtype)


def _cast(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Casts numbers; raises `ValueError` for one that would become another.

    A float may be rounded to a narrower float. But no float becomes an integer,
    no integer loses its upper bits, and truth values stay what they are.
    """
    kind, given = dtype.kind, numbers.dtype.kind
    if kind in "iu":
        limits = np.iinfo(dtype)
        fits = given in "iuO" and all(
            limits.min <= int(edge) <= limits.max
            for edge in (numbers.min(initial=0), numbers.max(initial=0))
        )
    elif kind == "b":
        fits = given == "b"
    else:
        fits = given in "iuf"
    with np.errstate(over="ignore"):
        cast = numbers.astype(dtype) if fits or not numbers.size else numbers
    if given == "f" and kind not in "iub":
        # Beyond the greatest number is infinity, which was not asked for.
        fits = fits and bool((np.isfinite(cast) | ~np.isfinite(numbers)).all())
    if not fits and numbers.size:
        raise ValueError(
            f"The values must fit the dtype {dtype}. Received: "
            f"{str(numbers.tolist())[:_SHOWN]}"
        )
    return cast


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Writes a NumPy array as a `TensorProto`, values in the typed field."""
    enum = _ENUMS.get(array.dtype)
    if enum is None:
        raise ValueError(
            "An array must have a dtype that TensorFlow Serving carries. "
            f"Received: dtype={array.dtype}"
        )
    proto = tensor_pb2.TensorProto(dtype=enum)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if enum in _AS_BITS:
        array = array.view(np.uint16)
    getattr(proto, _FIELDS[enum]).extend(array.ravel().tolist())
    return proto


def to_array(
    name: str, proto: tensor_pb2.TensorProto, max_bytes: int
) -> np.ndarray:
    """Reads a `TensorProto` from a request.

    As in TensorFlow, the last value is repeated when there are too few of
    them, but never beyond `max_bytes`.

    Args:
        name: the tensor's name, for messages.
        proto: the tensor.
        max_bytes: largest array that may come of it.

    Returns:
        The array; strings are an object array of `bytes`.
    """
    if proto.dtype not in _FIELDS:
        raise status_codes.invalid_argument(
            f'Input "{name}" has a dtype that is not served: {proto.dtype}.'
        )
    dtype = _NUMPY[proto.dtype]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise status_codes.invalid_argument(
            f'Input "{name}" must have a fully known shape. '
            f"Received: shape={list(shape)}"
        )
    if len(shape) > MAX_AXES:
        raise status_codes.invalid_argument(
            f'Input "{name}" must have at most {MAX_AXES} axes. '
            f"Received: {len(shape)} axes"
        )
    count = math.prod(shape)
    # An array without values must not be of a size that NumPy cannot hold.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > max_bytes:
        raise status_codes.invalid_argument(
            f'Input "{name}" must take at most {max_bytes} bytes. '
            f"Received: shape={list(shape)}, dtype={dtype}"
        )
    try:
        flat = _values(proto, dtype)
    except (ValueError, OverflowError, TypeError) as error:
        raise status_codes.invalid_argument(
            f'Input "{name}" could not be parsed: {error}'
        ) from error
    if flat.size > count or (proto.tensor_content and flat.size != count):
        raise status_codes.invalid_argument(
            f'Input "{name}" must hold {count} values for its shape '
            f"{list(shape)}. Received: {flat.size} values"
        )
    if flat.size < count:
        default = b"" if dtype.kind == "O" else 0
        last = flat[-1] if flat.size else default
        padding = np.full(count - flat.size, last, dtype=dtype)
        flat = np.concatenate([flat, padding])
    return flat.reshape(shape)


def _values(proto: tensor_pb2.TensorProto, dtype: np.dtype) -> np.ndarray:
    if proto.tensor_content and dtype.kind != "O":
        return np.frombuffer(proto.tensor_content, dtype)
    if proto.tensor_content:
        # Lengths, then bytes: TensorFlow reads its own format.
        parsed = tf.io.parse_tensor(proto.SerializeToString(), tf.string)
        return np.array(parsed.numpy(), dtype=object).ravel()
    values = getattr(proto, _FIELDS[proto.dtype])
    if proto.dtype in _AS_BITS:
        return np.array(values, np.uint16).view(dtype)
    if dtype.kind == "O":
        # `np.array(list_of_bytes, dtype=object)` is exact; "S" strips zeros.
        return np.array(list(values), dtype=object)
    return np.array(values, dtype)
