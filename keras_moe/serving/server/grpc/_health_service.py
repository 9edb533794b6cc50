"""gRPC `grpc.health.v1.Health`, which probes and balancers ask."""

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.grpc._answer import answer

# The empty name asks for the server as a whole.
_SERVICES = (
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)


class HealthService(health_pb2_grpc.HealthServicer):
    """Answers `Check`: serving as soon as a version answers.

    `Watch`, which would hold a thread for each client, is refused.

    Args:
        api: knows whether a version answers.
        metrics: counts the requests.
    """

    def __init__(self, api: ModelApi, metrics: ServerMetrics):
        self._api = api
        self._metrics = metrics

    def Check(  # noqa: D102, N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
    ) -> health_pb2.HealthCheckResponse:
        with answer(context, self._metrics, "Check"):
            if request.service not in _SERVICES:
                raise status_codes.not_found(
                    f"No such service: {request.service}"
                )
            response = health_pb2.HealthCheckResponse()
            response.status = response.NOT_SERVING
            if self._api.is_available:
                response.status = response.SERVING
            return response
