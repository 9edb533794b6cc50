"""gRPC `tensorflow.serving.PredictionService`."""

from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe.serving import status_codes
from keras_moe.serving import tensor_codec
from keras_moe.serving.model_watcher import ModelWatcher

_GRPC_CODES = {code.name: code for code in grpc.StatusCode}


def answer(
    context: grpc.ServicerContext, function: Callable[..., Any], *args: Any
) -> Any:
    """Calls `function`, turning what it raises into a gRPC status."""
    try:
        return function(*args)
    except Exception as error:
        name, message = status_codes.describe(error)
    context.abort(_GRPC_CODES[name], message)


def requested_version(model_spec: model_pb2.ModelSpec) -> int | None:
    """Reads the version that a request asks for; `None` is the newest."""
    if model_spec.WhichOneof("version_choice") == "version_label":
        # Labels are part of the stock server's configuration file.
        raise status_codes.invalid_argument(
            "Unrecognized servable version label: "
            f"{model_spec.version_label}. The embedded model server serves "
            "versions by number."
        )
    if model_spec.HasField("version"):
        return model_spec.version.value
    return None


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers `Predict` and `GetModelMetadata`; the rest is refused.

    Args:
        watcher: knows the version to ask.
        max_tensor_bytes: largest input that a request may describe.
    """

    def __init__(self, watcher: ModelWatcher, max_tensor_bytes: int):
        self._watcher = watcher
        self._max_tensor_bytes = max_tensor_bytes

    def Predict(  # noqa: N802, D102
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,
    ) -> predict_pb2.PredictResponse:
        return answer(context, self.predict, request)

    def GetModelMetadata(  # noqa: N802, D102
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return answer(context, self.get_model_metadata, request)

    def Classify(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        return answer(context, _refuse, "Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        return answer(context, _refuse, "Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext):  # noqa: D102, N802
        return answer(context, _refuse, "MultiInference")

    def predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        """Runs a signature.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        spec = request.model_spec
        with self._watcher.lease(
            spec.name, requested_version(spec)
        ) as servable:
            outputs = servable.predict(
                {
                    name: tensor_codec.to_array(
                        name, proto, self._max_tensor_bytes
                    )
                    for name, proto in request.inputs.items()
                },
                spec.signature_name,
                request.output_filter,
            )
            version = servable.version
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = (
            spec.signature_name or "serving_default"
        )
        for name, array in outputs.items():
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
            spec.name, requested_version(spec)
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
