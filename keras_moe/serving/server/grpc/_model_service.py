"""gRPC `tensorflow.serving.ModelService`."""

from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._version_state import to_response
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.grpc._answer import answer


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Answers `GetModelStatus`; reloading by request is refused.

    Args:
        api: answers what is asked.
        metrics: counts the requests.
    """

    def __init__(self, api: ModelApi, metrics: ServerMetrics):
        self._api = api
        self._metrics = metrics

    def GetModelStatus(  # noqa: D102, N802
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        with answer(context, self._metrics, "GetModelStatus"):
            spec = ModelSpec.from_proto(request.model_spec)
            return to_response(self._api.status(spec))

    def HandleReloadConfigRequest(  # noqa: D102, N802
        self, request: Any, context: grpc.ServicerContext
    ) -> None:
        with answer(context, self._metrics, "HandleReloadConfigRequest"):
            raise status_codes.unimplemented(
                "HandleReloadConfigRequest is not offered by the embedded "
                "model server. It serves the versions in its one folder."
            )
