"""gRPC `tensorflow.serving.ModelService`."""

from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._model_watcher import ModelWatcher
from keras_moe.serving.server._predictor import requested_version
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.grpc._prediction_service import answer


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Answers `GetModelStatus`; reloading by request is refused.

    Args:
        watcher: knows the versions.
        metrics: counts the requests.
    """

    def __init__(self, watcher: ModelWatcher, metrics: ServerMetrics):
        self._watcher = watcher
        self._metrics = metrics

    def GetModelStatus(  # noqa: D102, N802
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        with answer(context, self._metrics, "GetModelStatus"):
            return self.get_model_status(request)

    def HandleReloadConfigRequest(  # noqa: D102, N802
        self, request: Any, context: grpc.ServicerContext
    ) -> None:
        with answer(context, self._metrics, "HandleReloadConfigRequest"):
            raise status_codes.unimplemented(
                "HandleReloadConfigRequest is not offered by the embedded "
                "model server. It serves the versions in its one folder."
            )

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Lists the state of every version seen, or of one.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        name = request.model_spec.name
        states = {}
        if name == self._watcher.model_name:
            states = self._watcher.states()
        version = self._watcher.resolve(
            name, *requested_version(request.model_spec)
        )
        if version is not None:
            if version not in states:
                raise status_codes.not_found(
                    f"Could not find version {version} of model {name}"
                )
            states = {version: states[version]}
        if not states:
            raise status_codes.not_found(
                f"Could not find any versions of model {name}"
            )
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state in states.items():
            entry = response.model_version_status.add(version=number)
            entry.state = entry.State.Value(state.state)
            # The field's enum is TensorFlow's; its numbers are gRPC's.
            entry.status.error_code = status_codes.code_number(state.error_code)
            entry.status.error_message = state.error_message
        return response
