"""Values of a request and of an answer, as arrays and as JSON."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.protocol._signature import Signature


def need_signature(inputs: Mapping[str, Any]) -> bool:
    """Tells whether an input holds numbers that name no dtype of their own.

    Args:
        inputs: input name to value.

    Raises:
        ValueError: the inputs have no names.
    """
    if not isinstance(inputs, Mapping):
        raise ValueError(
            '`inputs` must map names to values, such as {"word": ["hello"]}. '
            f"Received: inputs={inputs!r}"
        )
    return any(map(_is_of_numbers, inputs.values()))


def to_arrays(
    inputs: Mapping[str, Any], signature: Signature | None
) -> dict[str, np.ndarray]:
    """Makes arrays of inputs, numbers in the dtypes of the signature.

    Args:
        inputs: input name to value.
        signature: what is asked; `None` where no input needs it, or the server
            knows none of that name.

    Raises:
        ValueError: a value is no array, or does not fit its dtype.
    """
    specs = {} if signature is None else signature.inputs
    arrays = {}
    for name, value in inputs.items():
        dtype = specs[name].dtype if name in specs else None
        try:
            arrays[name] = tensor_codec.as_array(value, dtype)
        except ValueError as error:
            raise ValueError(f"`inputs[{name!r}]`: {error}") from error
    return arrays


def to_json(array: np.ndarray) -> Any:
    """Gives what `json` writes; bytes that are no text in base64."""
    if array.dtype.kind != "O":
        return array.tolist()
    texts = np.empty(array.size, dtype=object)
    for index, value in enumerate(array.ravel().tolist()):
        try:
            texts[index] = value.decode()
        except UnicodeDecodeError:
            texts[index] = {"b64": base64.b64encode(value).decode()}
    return texts.reshape(array.shape).tolist()


def from_json(value: Any, dtype: np.dtype) -> np.ndarray:
    """Makes an array of what `json` read; strings are `bytes`."""
    if dtype.kind != "O":
        return np.array(value, dtype)
    return np.asarray(_decode(value), dtype=object)


def _is_of_numbers(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic, str, bytes)):
        return False
    items = np.asarray(value, dtype=object).flat
    return not any(isinstance(item, (str, bytes)) for item in items)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode()
