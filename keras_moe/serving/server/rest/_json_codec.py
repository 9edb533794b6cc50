"""Reads JSON bodies of the REST API, in TensorFlow Serving's two formats.

Row format holds one object an example (`"instances"` in, `"predictions"`
out), column format one array an input (`"inputs"` in, `"outputs"` out).
Bytes travel as `{"b64": ...}`; `NaN` and `Infinity` as these bare words.
"""

import base64
import binascii
import gc
import itertools
import json
import math
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._signature import TensorDescription
from keras_moe.serving.protocol._tensor_codec import MAX_AXES

_MAX_SHOWN = 100
_MARKS = (b",", b"[", b"{")


class _Word(float):
    """`NaN` or `Infinity` as a bare word, and no number that became it."""


# What fits a kind of dtype as it is; bfloat16's is "V".
_PLAIN: dict[str, set[type]] = {
    "O": set(),
    "b": {bool},
    "i": {int},
    "u": {int},
    "f": {int, float, _Word},
    "V": {int, float, _Word},
}


class PredictBody(NamedTuple):
    """What a `:predict` body asks for.

    Attributes:
        signature_name: the signature; empty means the default.
        is_row: whether examples come as rows.
        content: value of `"instances"` or `"inputs"`.
    """

    signature_name: str
    is_row: bool
    content: Any


def parse(body: bytes, max_values: int) -> PredictBody:
    """Reads the outer object of a `:predict` body.

    Args:
        body: the bytes.
        max_values: most values, lists and objects that it may hold.

    Raises:
        tf.errors.InvalidArgumentError: it is not one.
    """
    _check_count(body, max_values)
    try:
        document = _loads(body)
    # A body of brackets alone exhausts the parser's stack.
    except (ValueError, RecursionError) as error:
        raise status_codes.invalid_argument(
            f"JSON Parse error: {error}"
        ) from error
    if not isinstance(document, dict):
        raise status_codes.invalid_argument(
            f"JSON Value: {_show(document)} Is not object"
        )
    name = document.get("signature_name", "")
    if not isinstance(name, str) or not _is_text(name):
        raise status_codes.invalid_argument(
            "'signature_name' key must be a string value. "
            f"Received: {_show(name)}"
        )
    is_row = "instances" in document
    if is_row and "inputs" in document:
        raise status_codes.invalid_argument(
            "Not formatted correctly: expecting only one of 'inputs' or "
            "'instances' keys to exist"
        )
    if not is_row and "inputs" not in document:
        raise status_codes.invalid_argument(
            "Missing 'inputs' or 'instances' key"
        )
    content = document["instances" if is_row else "inputs"]
    if is_row and not (isinstance(content, list) and content):
        raise status_codes.invalid_argument(
            "Expecting 'instances' to be a list with at least one element. "
            f"Received: {_show(content)}"
        )
    return PredictBody(name, is_row, content)


def decode(
    body: PredictBody, signature: Signature, max_rows: int
) -> dict[str, np.ndarray]:
    """Turns a body into the arrays that a signature takes.

    Args:
        body: what came.
        signature: what is to be run.
        max_rows: most examples that it may hold.

    Raises:
        tf.errors.InvalidArgumentError: the values do not fit the signature's
            inputs.
    """
    columns = _columns(body, signature)
    arrays = {}
    for name, value in columns.items():
        spec = signature.inputs.get(name)
        if spec is None:  # as the stock server, which looks for its inputs
            continue
        if isinstance(value, list):
            signature.check_rows(name, [len(value)], max_rows)
        arrays[name] = _to_array(name, value, spec)
    return arrays


def _check_count(body: bytes, max_values: int) -> None:
    """Counts values before they are built: each takes some 64 bytes."""
    if len(body) <= max_values:
        return
    count = sum(map(body.count, _MARKS))
    if count > max_values:
        # Marks inside strings do not count. Each step takes a time that grows
        # with the body alone, as no pattern's does that looks for an end.
        bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
        count = bare.count(b'"') // 4  # a key and a text have two each
        if count <= max_values:
            outside = b"".join(bare.split(b'"')[::2])
            count = sum(map(outside.count, _MARKS))
    if count > max_values:
        raise status_codes.invalid_argument(
            f"The body must hold at most {max_values} values "
            f"(`max_request_bytes`). Received: {count}. Over gRPC a tensor "
            "takes less."
        )


def _loads(body: bytes) -> Any:
    # While a million lists are made, the collector would walk through all that
    # there are again and again, and nobody else could run. The parser never
    # lets another thread in, so that nobody misses it.
    was_on = gc.isenabled()
    gc.disable()
    try:
        return json.loads(body, parse_constant=_Word)
    finally:
        if was_on:
            gc.enable()


def _columns(body: PredictBody, signature: Signature) -> dict[str, Any]:
    content = body.content
    if not body.is_row:
        if _is_object(content):
            return content
        return {_only_input(signature, "inputs"): content}
    if not any(_is_object(row) for row in content):
        return {_only_input(signature, "instances"): content}
    for index, row in enumerate(content):
        if not _is_object(row) or row.keys() != signature.inputs.keys():
            raise status_codes.invalid_argument(
                f"Failed to process element: {index} of 'instances' list. "
                f"JSON object: {_show(row)} keys must be equal to: "
                f"{','.join(signature.inputs)}"
            )
    return {name: [row[name] for row in content] for name in signature.inputs}


def _only_input(signature: Signature, key: str) -> str:
    if len(signature.inputs) > 1:
        raise status_codes.invalid_argument(
            f"{key} is a plain value/list, but expecting an object as "
            "multiple input tensors are required: "
            f"{', '.join(signature.inputs)}"
        )
    if not signature.inputs:
        raise status_codes.invalid_argument(
            f'Signature "{signature.name}" takes no inputs.'
        )
    return next(iter(signature.inputs))


def _to_array(name: str, value: Any, spec: TensorDescription) -> np.ndarray:
    # Level by level, each in a few calls of C: a large body must not hold the
    # interpreter for a call a value.
    shape: list[int] = []
    flat = [value]
    while flat and isinstance(flat[0], list):
        _check_dense(name, flat, len(flat[0]))
        shape.append(len(flat[0]))
        if len(shape) > MAX_AXES:
            raise status_codes.invalid_argument(
                f'Input "{name}" must have at most {MAX_AXES} axes: '
                f"{_show(value)}"
            )
        flat = list(itertools.chain.from_iterable(flat))
    leaves = _leaves(name, flat, spec)
    try:
        array = np.array(leaves, spec.dtype)
    except (OverflowError, ValueError) as error:
        raise status_codes.invalid_argument(
            f'Input "{name}" must fit {spec.dtype_name}: {error}'
        ) from error
    if spec.dtype.kind == "f" and np.isinf(array).any():
        _check_words(leaves)
    return array.reshape(shape)


def _check_words(leaves: list[Any]) -> None:
    """Raises where a number such as 1e400 has become infinite."""
    if any(type(value) is float and math.isinf(value) for value in leaves):
        raise status_codes.invalid_argument(
            "JSON Parse error: Number too big to be stored in double."
        )


def _check_dense(name: str, level: list[Any], size: int) -> None:
    if set(map(type, level)) == {list} and set(map(len, level)) == {size}:
        return
    wrong = next(
        item for item in level if type(item) is not list or len(item) != size
    )
    raise status_codes.invalid_argument(
        f'Input "{name}" must be a dense tensor: all lists of a level '
        f"equally long. Expected a list of {size} but got: {_show(wrong)}"
    )


def _leaves(name: str, flat: list[Any], spec: TensorDescription) -> list[Any]:
    if set(map(type, flat)) <= _PLAIN.get(spec.dtype.kind, set()):
        return flat
    return [_leaf(name, value, spec) for value in flat]


def _is_text(value: str) -> bool:
    """Returns whether bytes can be made of it: JSON has half surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leaf(name: str, value: Any, spec: TensorDescription) -> Any:
    kind = spec.dtype.kind
    if kind == "O":
        if isinstance(value, str) and _is_text(value):
            return value.encode()
        if isinstance(value, dict) and value.keys() == {"b64"}:
            return _decode_base64(name, value["b64"])
    elif kind == "b":
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int) or (
        # bfloat16's kind is "V".
        kind in "fV" and isinstance(value, float)
    ):
        return value
    raise status_codes.invalid_argument(
        f'Input "{name}": JSON Value: {_show(value)} Type: '
        f"{type(value).__name__} is not of expected type: {spec.dtype_name}"
    )


def _decode_base64(name: str, text: Any) -> bytes:
    try:
        # Line breaks are let pass, and padding may be left out.
        packed = "".join(text.split())
        if not packed.endswith("="):
            packed += "=" * (-len(packed) % 4)
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, AttributeError, ValueError) as error:
        raise status_codes.invalid_argument(
            f'Input "{name}": Unable to base64 decode {_show(text)}'
        ) from error


def _is_object(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def _show(value: Any) -> str:
    """Shows the beginning, and makes no more text than that."""
    text = ""
    for part in json.JSONEncoder().iterencode(value):
        text += part
        if len(text) > _MAX_SHOWN:
            return text[:_MAX_SHOWN] + "..."
    return text
