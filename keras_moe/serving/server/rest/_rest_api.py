"""TensorFlow Serving's REST API over the standard library's HTTP server."""

import contextlib
import http
import http.server
import json
import logging
import re
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any
from typing import NoReturn

import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server import _server_metrics as server_metrics
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._call import counted
from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._predictor import Predictor
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.grpc._model_service import ModelService
from keras_moe.serving.server.grpc._prediction_service import PredictionService
from keras_moe.serving.server.rest import _json_codec as json_codec

_LOG = logging.getLogger(__name__)

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(_MODEL + r":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
# A version is a signed 64-bit number in the API's messages.
_MAX_VERSION_DIGITS = 18
_IDLE_SECONDS = 60.0
_HANDSHAKE_SECONDS = 10.0
_LINGER_SECONDS = 2.0
_MAX_CONNECTIONS = 128
_JSON = "application/json"
_JSON_OPTIONS = {
    "preserving_proto_field_name": True,
    "always_print_fields_with_no_presence": True,
}


class RestApi:
    """Listens for REST requests, a thread a connection.

    Args:
        host: address to listen on.
        port: port; 0 takes a free one.
        predictions: answers what is asked of a model.
        models: answers what is asked about it.
        predictor: runs it.
        metrics: counts the requests, and is exposed.
        gate: says who may ask.
        max_body_bytes: largest body to read.
        tls: the certificate to show; `None` speaks in the clear.

    Attributes:
        port: the port that is listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        predictions: PredictionService,
        models: ModelService,
        predictor: Predictor,
        metrics: ServerMetrics,
        gate: Gate,
        max_body_bytes: int,
        tls: ssl.SSLContext | None = None,
    ):
        handler = type(
            "Handler",
            (_Handler,),
            {
                "predictions": predictions,
                "models": models,
                "predictor": predictor,
                "metrics": metrics,
                "gate": gate,
                "max_body_bytes": max_body_bytes,
            },
        )
        server_class = type(
            "HttpServer",
            (_HttpServer,),
            {"address_family": _address_family(host), "tls": tls},
        )
        self._server = server_class((host, port), handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="rest-api",
            daemon=True,
        )

    def start(self) -> None:
        """Starts to listen, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops listening."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Otherwise closing waits for connections that clients keep alive.
    block_on_close = False
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        # Not `HTTPServer.server_bind`, which asks the name service who we are.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            _LOG.warning("Refused a connection: %d are open", _MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            # Here, not where connections are accepted: a client that is slow
            # to shake hands keeps nobody else waiting.
            super().process_request_thread(
                self._encrypt(request), client_address
            )
        except (OSError, ssl.SSLError):
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        finally:
            self._slots.release()

    def _encrypt(self, request: socket.socket) -> socket.socket:
        if self.tls is None:
            return request
        request.settimeout(_HANDSHAKE_SECONDS)
        return self.tls.wrap_socket(request, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("A client broke off", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    predictions: PredictionService
    models: ModelService
    predictor: Predictor
    metrics: ServerMetrics
    gate: Gate
    max_body_bytes: int
    _call: Call

    protocol_version = "HTTP/1.1"
    server_version = "keras_moe"
    sys_version = ""
    timeout = _IDLE_SECONDS
    # With Nagle's algorithm an answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:  # noqa: N802
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        _LOG.debug(format, *args)

    def send_error(
        self, code: int, message: str | None = None, explain: Any = None
    ) -> None:
        """Reports what the base class refuses, in JSON instead of HTML."""
        self.close_connection = True
        self._send(code, _error(message or http.HTTPStatus(code).phrase))
        self._linger()

    def handle_expect_100(self) -> bool:
        # A client that asks first need not send what would be refused.
        refusal = self._length_refusal()
        if refusal:
            self.send_error(*refusal)
            return False
        return super().handle_expect_100()

    def _answer(self, function: Callable[[], tuple[bytes, str]]) -> None:
        try:
            with counted(self.metrics, "rest") as self._call:
                self._check_gate()
                body, content_type = function()
            self._send(200, body, content_type)
        except _Refusal as refusal:
            self.send_error(*refusal.args)
        except Exception as error:
            if isinstance(error, (ConnectionError, TimeoutError)):
                raise
            name, message = status_codes.describe(error)
            self._send(status_codes.http_status(name), _error(message))

    def _check_gate(self) -> None:
        try:
            self.gate.check(self.headers.get("Authorization"))
        except tf.errors.OpError as error:
            # A stranger's body is not even read.
            name, message = status_codes.describe(error)
            self._refuse(name, status_codes.http_status(name), message)

    def _refuse(self, name: str, status: int, message: str) -> NoReturn:
        self._call.code = name
        raise _Refusal(status, message)

    def _get(self) -> tuple[bytes, str]:
        self._read_body()
        if self.path.partition("?")[0] == server_metrics.PATH:
            self._call.method = "Metrics"
            return self.metrics.expose(), server_metrics.CONTENT_TYPE
        match = self._match(_GET)
        spec = _model_spec(*match.group(1, 2, 3))
        if match[4]:
            self._call.method = "GetModelMetadata"
            return self._metadata(spec), _JSON
        self._call.method = "GetModelStatus"
        response = self.models.get_model_status(
            get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        )
        document = json_format.MessageToDict(response, **_JSON_OPTIONS)
        return json.dumps(document, indent=1).encode(), _JSON

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        response = self.predictions.get_model_metadata(
            get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=spec, metadata_field=["signature_def"]
            )
        )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        # Field by field, as the API has it: no "@type" of the `Any`.
        document = {
            "model_spec": json_format.MessageToDict(
                response.model_spec, **_JSON_OPTIONS
            ),
            "metadata": {
                "signature_def": json_format.MessageToDict(
                    signatures, **_JSON_OPTIONS
                )
            },
        }
        return json.dumps(document, indent=1).encode()

    def _post(self) -> tuple[bytes, str]:
        # Before anything else: what is not read would be taken for the next
        # request of the connection.
        content = self._read_body()
        match = self._match(_POST)
        spec = _model_spec(*match.group(1, 2, 3))
        if match[4].lower() != "predict":
            raise status_codes.unimplemented(
                f":{match[4]} is not offered by the embedded model server. "
                "Use :predict."
            )
        self._call.method = "Predict"
        body = json_codec.parse(content)
        spec.signature_name = body.signature_name
        prediction = self.predictor.predict(
            self._call,
            spec,
            lambda signature: json_codec.decode(body, signature),
        )
        return json_codec.encode(prediction.outputs, body.is_row), _JSON

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        path = self.path.partition("?")[0]
        match = pattern.fullmatch(path)
        if match is None:
            raise status_codes.invalid_argument(
                f"Malformed request: {self.command} {path}"
            )
        return match

    def _length_refusal(self) -> tuple[int, str] | None:
        if "Transfer-Encoding" in self.headers:
            return 411, "The body must come with a Content-Length."
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return 400, f"Malformed Content-Length: {length}"
        if len(length) > _MAX_VERSION_DIGITS or int(length) > (
            self.max_body_bytes
        ):
            return 413, (
                f"The body must have at most {self.max_body_bytes} bytes. "
                f"Received: {length}"
            )
        return None

    def _read_body(self) -> bytes:
        refusal = self._length_refusal()
        if refusal:
            self._refuse(status_codes.from_http_status(refusal[0]), *refusal)
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("The client closed in the middle of a body.")
        return body

    def _linger(self) -> None:
        """Throws away what is still arriving, for a while.

        Closing at once would reset the connection, and a client in the
        middle of sending would never see the answer.
        """
        deadline = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER_SECONDS)
            while self.connection.recv(1 << 16):
                if time.monotonic() > deadline:
                    break

    def _send(self, code: int, body: bytes, content_type: str = _JSON) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        if code == http.HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


class _Refusal(Exception):
    """A body that is not even read."""


def _model_spec(
    name: str, version: str | None, label: str | None
) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if version:
        if len(version) > _MAX_VERSION_DIGITS:
            raise status_codes.invalid_argument(
                f"Failed to convert version: {version} to numeric."
            )
        spec.version.value = int(version)
    elif label:
        spec.version_label = urllib.parse.unquote(label)
    return spec


def _address_family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()
