"""TensorFlow Serving's gRPC API: the listening half."""

import concurrent.futures
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import message
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server._server_settings import ServerSettings
from keras_moe.serving.server.grpc._health_service import HealthService
from keras_moe.serving.server.grpc._message_wait import MessageWait
from keras_moe.serving.server.grpc._model_service import ModelService
from keras_moe.serving.server.grpc._prediction_service import PredictionService

# Requests that may be under way at a time, of all clients and of a connection;
# more are refused, or wait in the client.
_MAX_CALLS, _MAX_CALLS_PER_CONNECTION = 256, 64
# Of these, how many may still owe their message, and for how long.
_MAX_SILENT, _MESSAGE_SECONDS = 192, 10.0
_HANDSHAKE_SECONDS = 10


class GrpcApi:
    """Listens for gRPC requests.

    A request passes `_Gatekeeper`, which may refuse it, and `_Parser`, which
    waits for its message and parses it, to a method of the two services. Each
    has a thread; how many of them run a model at a time is `ModelApi`'s
    business.

    Args:
        settings: the address, the limits and the certificate.
        api: answers what is asked.
        metrics: counts the requests.
        gate: says who may ask.

    Attributes:
        port: the port that is listened on.

    Raises:
        OSError: it cannot be listened on.
    """

    def __init__(
        self,
        settings: ServerSettings,
        api: ModelApi,
        metrics: ServerMetrics,
        gate: Gate,
    ):
        limit = settings.max_request_bytes
        self._wait = MessageWait(_MESSAGE_SECONDS, _MAX_SILENT)
        self._server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(
                _MAX_CALLS, thread_name_prefix="grpc"
            ),
            maximum_concurrent_rpcs=_MAX_CALLS,
            interceptors=(
                *(() if gate.is_open else (_Gatekeeper(gate, metrics),)),
                _Parser(metrics, self._wait),
            ),
            options=[
                ("grpc.max_concurrent_streams", _MAX_CALLS_PER_CONNECTION),
                ("grpc.server_handshake_timeout_ms", 1000 * _HANDSHAKE_SECONDS),
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                # With `SO_REUSEPORT` on, a second server on the same port would
                # silently take half of the requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(api, metrics, limit, settings.max_request_rows),
            self._server,
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(api, metrics), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthService(api, metrics), self._server
        )
        self.port = _listen(self._server, settings)

    def start(self) -> None:
        """Starts to listen, in threads."""
        self._wait.start()
        self._server.start()

    def stop(self, grace: float) -> None:
        """Stops, letting requests under way finish for `grace` seconds."""
        self._server.stop(grace).wait()
        self._wait.stop()


def _listen(server: grpc.Server, settings: ServerSettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    error: Exception | None = None
    port = 0
    try:
        if settings.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(
                address, settings.tls.grpc_credentials()
            )
    except RuntimeError as failure:
        error = failure
    if not port:
        raise OSError(
            "`grpc_port` must be a port that can be listened on. "
            f"Received: host={settings.host!r}, grpc_port={settings.grpc_port}"
        ) from error
    return port


class _Gatekeeper(grpc.ServerInterceptor):
    """Asks the gate before a request is even parsed."""

    def __init__(self, gate: Gate, metrics: ServerMetrics):
        self._gate = gate
        self._metrics = metrics

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,
    ) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)
        try:
            self._gate.check(metadata.get("authorization"))
        except tf.errors.OpError as error:
            name, message = status_codes.describe(error)
            self._metrics.count_request("grpc", "", name, 0.0)
            code = getattr(grpc.StatusCode, name)
            return _refuse(code, message)
        return continuation(handler_call_details)


def _refuse(code: grpc.StatusCode, message: str) -> grpc.RpcMethodHandler:
    # A handler of streams is called at once; one of a single message would
    # wait for it.
    return grpc.stream_unary_rpc_method_handler(
        lambda messages, context: context.abort(code, message)
    )


class _Parser(grpc.ServerInterceptor):
    """Receives and parses requests where gRPC would.

    gRPC waits for a message for ever. It calls a request that does not parse
    its own fault, `INTERNAL`, writes a traceback, and never frees what it holds
    of it: about 18 KiB (grpcio 1.85), which anybody could have it lose.
    """

    def __init__(self, metrics: ServerMetrics, wait: MessageWait):
        self._metrics = metrics
        self._wait = wait

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,
    ) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler  # there is no such method, or it was refused
        if handler.response_streaming:
            return _refuse(
                grpc.StatusCode.UNIMPLEMENTED, "Streams are not offered."
            )

        def receive_and_answer(
            messages: Iterator[bytes], context: grpc.ServicerContext
        ) -> Any:
            try:
                data = self._wait.receive(messages, context)
            except grpc.RpcError:
                self._metrics.count_request("grpc", "", "CANCELLED", 0.0)
                raise
            return handler.unary_unary(
                self._parse(handler, data, context), context
            )

        return grpc.stream_unary_rpc_method_handler(
            receive_and_answer, response_serializer=handler.response_serializer
        )

    def _parse(
        self, handler: Any, data: bytes | None, context: grpc.ServicerContext
    ) -> Any:
        reason = "there is none"
        if data is not None:
            try:
                return handler.request_deserializer(data)
            except message.DecodeError as error:
                reason = str(error)
        self._metrics.count_request("grpc", "", "INVALID_ARGUMENT", 0.0)
        context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"The request could not be parsed: {reason}",
        )
