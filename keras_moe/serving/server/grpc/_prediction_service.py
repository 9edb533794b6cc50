"""gRPC `tensorflow.serving.PredictionService`."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf import struct_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._signature import to_signature_map
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.grpc._answer import answer

_SIGNATURE_DEF = "signature_def"
# What a stock server does not know.
_CERTIFICATE = "certificate"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers `Predict` and `GetModelMetadata`; the rest is refused.

    Args:
        api: answers what is asked.
        metrics: counts the requests.
        max_tensor_bytes: largest input that a request may describe.
        max_rows: most examples that it may hold.
    """

    def __init__(
        self,
        api: ModelApi,
        metrics: ServerMetrics,
        max_tensor_bytes: int,
        max_rows: int,
    ):
        self._api = api
        self._metrics = metrics
        self._max_tensor_bytes = max_tensor_bytes
        self._max_rows = max_rows

    def Predict(  # noqa: N802, D102
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,
    ) -> predict_pb2.PredictResponse:
        def decode(signature: Signature) -> Mapping[str, np.ndarray]:
            for name, proto in request.inputs.items():
                shape = [dim.size for dim in proto.tensor_shape.dim]
                signature.check_rows(name, shape, self._max_rows)
            return {
                name: tensor_codec.to_array(name, proto, self._max_tensor_bytes)
                for name, proto in request.inputs.items()
            }

        with answer(context, self._metrics, "Predict") as call:
            spec = ModelSpec.from_proto(request.model_spec)
            version, signature_name, outputs = self._api.predict(
                call,
                spec,
                request.model_spec.signature_name,
                decode,
                request.output_filter,
            )
            response = predict_pb2.PredictResponse()
            response.model_spec.name = spec.name
            response.model_spec.version.value = version
            response.model_spec.signature_name = signature_name
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(tensor_codec.to_proto(array))
            return response

    def GetModelMetadata(  # noqa: N802, D102
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        with answer(context, self._metrics, "GetModelMetadata"):
            _check_fields(request.metadata_field)
            spec = ModelSpec.from_proto(request.model_spec)
            version, definitions, certification = self._api.metadata(spec)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = spec.name
            response.model_spec.version.value = version
            if _SIGNATURE_DEF in request.metadata_field:
                response.metadata[_SIGNATURE_DEF].Pack(
                    to_signature_map(definitions)
                )
            if _CERTIFICATE in request.metadata_field and certification:
                summary = struct_pb2.Struct()
                summary.update(certification.summary())
                response.metadata[_CERTIFICATE].Pack(summary)
            return response

    def Classify(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        self._refuse(context, "Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        self._refuse(context, "Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        self._refuse(context, "MultiInference")

    def _refuse(self, context: grpc.ServicerContext, method: str) -> None:
        with answer(context, self._metrics, method):
            raise status_codes.unimplemented(
                f"{method} is not offered by the embedded model server. Use "
                "Predict."
            )


def _check_fields(fields: Any) -> None:
    if not fields:
        raise status_codes.invalid_argument(
            "GetModelMetadataRequest must specify at least one metadata_field"
        )
    for field in fields:
        if field not in (_SIGNATURE_DEF, _CERTIFICATE):
            raise status_codes.invalid_argument(
                f"Metadata field {field} is not supported"
            )
