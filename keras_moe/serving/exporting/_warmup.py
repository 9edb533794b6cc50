"""Warm-up requests, stored beside a SavedModel and replayed at loading.

The format is TensorFlow Serving's: a TFRecord of `PredictionLog` in
`assets.extra/tf_serving_warmup_requests`, at most 1000 of them.
"""

import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe.atomic_file import atomic_file
from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._signature import read_signatures

MAX_REQUESTS = 1000
_FILE = pathlib.Path("assets.extra", "tf_serving_warmup_requests")


def write_warmup_requests(
    export_directory: str | os.PathLike,
    requests: Sequence[tuple[str, Mapping[str, Any]]],
) -> pathlib.Path:
    """Stores requests that a server replays before it serves a model.

    The file appears complete or not at all.

    Args:
        export_directory: folder of a SavedModel.
        requests: pairs of a signature name and its inputs (arrays, or what
            NumPy makes arrays of), at least 1 and at most 1000. Each is
            checked against the signature.

    Returns:
        The path of the file.

    Raises:
        ValueError: there is no SavedModel, there are too many requests, or
            one of them does not fit its signature.
    """
    directory = pathlib.Path(export_directory)
    requests = list(requests)
    if not 1 <= len(requests) <= MAX_REQUESTS:
        raise ValueError(
            f"`requests` must hold 1 to {MAX_REQUESTS} requests. "
            f"Received: {len(requests)} requests"
        )
    signatures = _read_signatures(directory)
    records = [
        _record(signatures, index, name, inputs)
        for index, (name, inputs) in enumerate(requests)
    ]
    path = directory / _FILE
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as partial:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for record in records:
                writer.write(record)
    return path


def read_requests(
    directory: pathlib.Path, max_tensor_bytes: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the signature name and the inputs of each stored request.

    Args:
        directory: folder of a SavedModel; it may have no such file.
        max_tensor_bytes: largest input to accept.

    Raises:
        tf.errors.OpError: the file is damaged or holds too many requests.
    """
    path = directory / _FILE
    if not path.is_file():
        return
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    for index, record in enumerate(records):
        if index == MAX_REQUESTS:
            raise status_codes.invalid_argument(
                f"{path} must hold at most {MAX_REQUESTS} requests."
            )
        log = _parse(record, path)
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            raise status_codes.unimplemented(
                f"{path} must hold Predict requests only. Received: {kind}"
            )
        request = log.predict_log.request
        inputs = {
            name: tensor_codec.to_array(name, proto, max_tensor_bytes)
            for name, proto in request.inputs.items()
        }
        yield request.model_spec.signature_name, inputs


def _parse(
    record: bytes, path: pathlib.Path
) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError as error:
        raise tf.errors.DataLossError(
            None, None, f"{path} must hold PredictionLog records: {error}"
        ) from error


def _read_signatures(directory: pathlib.Path) -> dict[str, Signature]:
    path = directory / "saved_model.pb"
    if not path.is_file():
        raise ValueError(
            "`export_directory` must be the folder of a SavedModel. "
            f"Received: export_directory={str(directory)!r}, which has no "
            "saved_model.pb"
        )
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in model.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return read_signatures(meta_graph.signature_def)
    raise ValueError(
        "`export_directory` must hold a SavedModel tagged 'serve'. "
        f"Received: export_directory={str(directory)!r}"
    )


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
        signatures[name].check(arrays)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"`requests[{index}]`: {error.message}") from error
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = name
    for key, array in arrays.items():
        request.inputs[key].CopyFrom(tensor_codec.to_proto(array))
    return log.SerializeToString()
