"""gRPC `tensorflow.serving.PredictionService`."""

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._call import counted
from keras_moe.serving.server._model_watcher import ModelWatcher
from keras_moe.serving.server._predictor import Predictor
from keras_moe.serving.server._predictor import requested_version
from keras_moe.serving.server._server_metrics import ServerMetrics

_GRPC_CODES = {code.name: code for code in grpc.StatusCode}


@contextlib.contextmanager
def answer(
    context: grpc.ServicerContext, metrics: ServerMetrics, method: str
) -> Iterator[Call]:
    """Counts a call, and turns what it raises into a gRPC status."""
    try:
        with counted(metrics, "grpc", method) as call:
            yield call
        return
    except Exception as error:
        name, message = status_codes.describe(error)
    context.abort(_GRPC_CODES[name], message)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers `Predict` and `GetModelMetadata`; the rest is refused.

    Args:
        watcher: knows the versions.
        predictor: runs them.
        metrics: counts the requests.
        max_tensor_bytes: largest input that a request may describe.
    """

    def __init__(
        self,
        watcher: ModelWatcher,
        predictor: Predictor,
        metrics: ServerMetrics,
        max_tensor_bytes: int,
    ):
        self._watcher = watcher
        self._predictor = predictor
        self._metrics = metrics
        self._max_tensor_bytes = max_tensor_bytes

    def Predict(  # noqa: N802, D102
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,
    ) -> predict_pb2.PredictResponse:
        with answer(context, self._metrics, "Predict") as call:
            return self.predict(request, call)

    def GetModelMetadata(  # noqa: N802, D102
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        with answer(context, self._metrics, "GetModelMetadata"):
            return self.get_model_metadata(request)

    def Classify(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        with answer(context, self._metrics, "Classify"):
            _refuse("Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        with answer(context, self._metrics, "Regress"):
            _refuse("Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        with answer(context, self._metrics, "MultiInference"):
            _refuse("MultiInference")

    def predict(
        self, request: predict_pb2.PredictRequest, call: Call
    ) -> predict_pb2.PredictResponse:
        """Runs a signature.

        Raises:
            tf.errors.OpError: with the code to answer.
        """

        def decode(signature: Signature) -> Mapping[str, np.ndarray]:
            return {
                name: tensor_codec.to_array(name, proto, self._max_tensor_bytes)
                for name, proto in request.inputs.items()
            }

        spec = request.model_spec
        prediction = self._predictor.predict(
            call, spec, decode, request.output_filter
        )
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = prediction.version
        response.model_spec.signature_name = prediction.signature_name
        for name, array in prediction.outputs.items():
            response.outputs[name].CopyFrom(tensor_codec.to_proto(array))
        return response

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        if not request.metadata_field:
            raise status_codes.invalid_argument(
                "GetModelMetadataRequest must specify at least one "
                "metadata_field"
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise status_codes.invalid_argument(
                    f"Metadata field {field} is not supported"
                )
        spec = request.model_spec
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._watcher.lease(
            spec.name, *requested_version(spec)
        ) as servable:
            for name, definition in servable.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
            version = servable.version
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = version
        response.metadata["signature_def"].Pack(signatures)
        return response


def _refuse(method: str) -> None:
    raise status_codes.unimplemented(
        f"{method} is not offered by the embedded model server. Use Predict."
    )
