"""Reads the requests that a version's exporter had a server replay.

The format is TensorFlow Serving's: a TFRecord of `PredictionLog` in
`assets.extra/tf_serving_warmup_requests`, at most 1000 of them.
"""

import logging
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe.model_folder import WARMUP_REQUESTS
from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol import _tensor_codec as tensor_codec

MAX_REQUESTS = 1000
_NOT_OFFERED = ("classify_log", "regress_log", "multi_inference_log")
_LOG = logging.getLogger(__name__)


def read_warmup_requests(
    folder: pathlib.Path, max_tensor_bytes: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the signature name and the inputs of each stored request.

    Requests that are not `Predict`'s are left out.

    Args:
        folder: of the version; it may have no such file.
        max_tensor_bytes: largest input to accept.

    Raises:
        tf.errors.OpError: the file is damaged or holds too many requests.
    """
    path = folder / WARMUP_REQUESTS
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
        if kind in _NOT_OFFERED:
            # The stock server replays it; here no client can send its like.
            _LOG.info("%s: record %d, %s, is left out", path, index, kind)
            continue
        if kind != "predict_log":
            raise status_codes.unimplemented(
                f"{path} must hold requests. Received: {kind}"
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
