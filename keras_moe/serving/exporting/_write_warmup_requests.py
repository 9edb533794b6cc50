"""Writes warm-up requests, which a server replays before it serves.

The format is TensorFlow Serving's: a TFRecord of `PredictionLog` in
`assets.extra/tf_serving_warmup_requests`, at most 1000 of them.
"""

import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe.atomic_file import atomic_file
from keras_moe.model_folder import WARMUP_REQUESTS
from keras_moe.serving.exporting._compiled_shapes import COMPILED_IDS
from keras_moe.serving.exporting._read_signatures import read_model_signatures
from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.versions._warmup_requests import MAX_REQUESTS
from keras_moe.serving.versions._warmup_requests import read_warmup_requests

# What `export` wrote is no stranger's.
_ANY_SIZE = 1 << 62


def write_warmup_requests(
    export_directory: str | os.PathLike,
    requests: Sequence[tuple[str, Mapping[str, Any]]],
) -> pathlib.Path:
    """Stores requests that a server replays before it serves a model.

    The file appears complete or not at all. Requests stored before are
    replaced, but for those of the shapes that `keras_moe.serving.export`
    compiles.

    Args:
        export_directory: folder of a SavedModel.
        requests: pairs of a signature name and its inputs (arrays, or what
            NumPy makes arrays of), at least 1 and at most 1000 in all. Each
            is checked against the signature.

    Returns:
        The path of the file.

    Raises:
        ValueError: there is no SavedModel, there are too many requests, or
            one of them does not fit its signature.

    Example:

    >>> keras_moe.serving.export_endpoints(
    ...     directory,
    ...     {
    ...         "serving_default": (
    ...             lambda x: {"y": 2 * x},
    ...             [tf.TensorSpec([None], name="x")],
    ...         )
    ...     },
    ... )
    >>> path = keras_moe.serving.write_warmup_requests(
    ...     directory, [("serving_default", {"x": np.float32([1.0, 2.0])})]
    ... )
    >>> path.name
    'tf_serving_warmup_requests'
    """
    directory = pathlib.Path(export_directory)
    requests = list(requests)
    kept = _compiled_records(directory)
    most = MAX_REQUESTS - len(kept)
    if not 1 <= len(requests) <= most:
        raise ValueError(
            f"`requests` must hold 1 to {most} requests. "
            f"Received: {len(requests)} requests"
        )
    signatures = read_model_signatures(directory)
    records = kept + [
        _record(signatures, index, name, inputs)
        for index, (name, inputs) in enumerate(requests)
    ]
    path = directory / WARMUP_REQUESTS
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as partial:
        write_records(partial, records)
    return path


def _record(
    signatures: Mapping[str, Signature],
    index: int,
    name: str,
    inputs: Mapping[str, Any],
) -> bytes:
    if name not in signatures:
        raise ValueError(
            f"`requests[{index}]` must name one of the signatures "
            f"{sorted(signatures)}. Received: {name!r}"
        )
    specs = signatures[name].inputs
    arrays = {
        key: tensor_codec.as_array(
            value, specs[key].dtype if key in specs else None
        )
        for key, value in inputs.items()
    }
    try:
        signatures[name].complete(arrays)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"`requests[{index}]`: {error.message}") from error
    return warmup_record(name, arrays)


def warmup_record(name: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Returns the record of a request.

    Args:
        name: of the signature.
        inputs: name to array, as the signature wants them.
    """
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = name
    for key, array in inputs.items():
        request.inputs[key].CopyFrom(tensor_codec.to_proto(array))
    return log.SerializeToString()


def write_compiled_requests(
    path: pathlib.Path, sources: Sequence[np.ndarray]
) -> None:
    """Writes the requests of the shapes that `export` compiles."""
    write_records(
        path,
        [warmup_record(COMPILED_IDS, {"token_ids": ids}) for ids in sources],
    )


def write_records(path: pathlib.Path, records: Sequence[bytes]) -> None:
    """Writes records to a file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _compiled_records(directory: pathlib.Path) -> list[bytes]:
    """Returns the records of the shapes that `export` compiles."""
    return [
        warmup_record(name, inputs)
        for name, inputs in read_warmup_requests(directory, _ANY_SIZE)
        if name == COMPILED_IDS
    ]
