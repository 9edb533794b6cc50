"""Writes JSON answers of the REST API, in the format of the question.

The formats are those that `_json_codec` reads; numbers are written as the
shortest text that reads as the same number of their dtype.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from keras_moe.serving.protocol import _status_codes as status_codes


def encode(outputs: Mapping[str, np.ndarray], is_row: bool) -> bytes:
    """Writes the answer in the format of the question.

    Raises:
        tf.errors.InvalidArgumentError: the outputs cannot be told apart by
            row.
    """
    # orjson writes arrays as they are, forty times faster than a list of
    # numbers, but has no word for NaN.
    is_finite = all(map(_is_finite, outputs.values()))
    values = {
        name: _texts(name, array)
        if array.dtype.kind == "O"
        else _numbers(array, as_lists=not is_finite)
        for name, array in outputs.items()
    }
    if not is_row:
        content = values if len(values) > 1 else next(iter(values.values()))
        return _dumps({"outputs": content}, is_finite)
    sizes = {
        name: array.shape[0] if array.ndim else None
        for name, array in outputs.items()
    }
    expected = next(iter(sizes.values()))
    for name, size in sizes.items():
        if size is None or size != expected:
            raise status_codes.invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {size} "
                f"expecting: {expected}. Ask in column format ('inputs')."
            )
    if len(values) == 1:
        return _dumps({"predictions": next(iter(values.values()))}, is_finite)
    rows = [
        dict(zip(values, row, strict=True))
        for row in zip(*values.values(), strict=True)
    ]
    return _dumps({"predictions": rows}, is_finite)


def _dumps(document: dict[str, Any], is_finite: bool) -> bytes:
    if not is_finite:
        return json.dumps(document).encode()
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _texts(name: str, array: np.ndarray) -> Any:
    texts = np.empty(array.size, dtype=object)
    for index, value in enumerate(array.ravel().tolist()):
        # TensorFlow Serving's convention: outputs whose name ends with
        # "_bytes" are not text, and travel as base64.
        if name.endswith("_bytes"):
            texts[index] = {"b64": base64.b64encode(value).decode()}
        else:
            texts[index] = value.decode(errors="replace")
    return texts.reshape(array.shape).tolist()


def _numbers(array: np.ndarray, as_lists: bool) -> Any:
    is_narrow = array.dtype.kind in "fV" and array.dtype.itemsize < 8
    if is_narrow:
        array = array.astype(np.float32)
    if not as_lists:
        return np.ascontiguousarray(array) if array.ndim else array[()]
    if is_narrow:
        # 0.1 in float32 is to be printed as 0.1, not 0.10000000149011612.
        array = array.astype("U").astype(np.float64)
    return array.tolist()


def _is_finite(array: np.ndarray) -> bool:
    if array.dtype.kind == "V":  # bfloat16
        array = array.astype(np.float32)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
