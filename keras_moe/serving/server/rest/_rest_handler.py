"""TensorFlow Serving's REST API: a connection, and the requests on it."""

import contextlib
import functools
import http
import http.server
import json
import logging
import re
import socket
import time
import urllib.parse
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NoReturn

import tensorflow as tf
from google.protobuf import json_format
from google.protobuf import message
from tensorflow.core.protobuf import meta_graph_pb2

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._signature import to_signature_map
from keras_moe.serving.protocol._version_state import to_response
from keras_moe.serving.server import _server_metrics as server_metrics
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._call import counted
from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.rest import _json_codec as json_codec
from keras_moe.serving.versions._version_folders import version_number

_LOG = logging.getLogger(__name__)

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(_MODEL + r":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
# Python refuses to convert numbers of thousands of digits.
_MAX_LENGTH_DIGITS = 18
_IDLE_SECONDS = 60.0
_LINGER_SECONDS = 2.0
_JSON = "application/json"


class RestHandler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other.

    Args:
        api: answers what is asked.
        metrics: counts the requests, and is exposed.
        gate: says who may ask.
        max_body_bytes: largest body to read.
        *connection: the base class's arguments.
    """

    protocol_version = "HTTP/1.1"
    server_version = "keras_moe"
    sys_version = ""
    timeout = _IDLE_SECONDS
    # With Nagle's algorithm an answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1

    def __init__(
        self,
        api: ModelApi,
        metrics: ServerMetrics,
        gate: Gate,
        max_body_bytes: int,
        *connection: Any,
    ):
        self._api = api
        self._metrics = metrics
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._call = Call("")
        # The base class's constructor answers all requests of the connection,
        # so attributes must be set before.
        super().__init__(*connection)

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
        # A client that waits for "100 Continue" need not send a body that
        # would be refused.
        refusal = self._length_refusal()
        if refusal:
            self.send_error(*refusal)
            return False
        return super().handle_expect_100()

    def _answer(self, function: Callable[[], tuple[bytes, str]]) -> None:
        try:
            with counted(self._metrics, "rest") as self._call:
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
            self._gate.check(self.headers.get("Authorization"))
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
            return self._metrics.expose(), server_metrics.CONTENT_TYPE
        match = self._match(_GET)
        spec = _model_spec(*match.group(1, 2, 3))
        if match[4]:
            self._call.method = "GetModelMetadata"
            return _metadata_json(spec.name, *self._api.metadata(spec)), _JSON
        self._call.method = "GetModelStatus"
        response = to_response(self._api.status(spec))
        return _to_json(_to_document(response)), _JSON

    def _post(self) -> tuple[bytes, str]:
        # The body comes first: bytes that are left unread would be taken for
        # the next request of the connection.
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
        prediction = self._api.predict(
            self._call,
            spec,
            body.signature_name,
            functools.partial(json_codec.decode, body),
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
        if len(length) > _MAX_LENGTH_DIGITS or int(length) > (
            self._max_body_bytes
        ):
            return 413, (
                f"The body must have at most {self._max_body_bytes} bytes. "
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
        """Throws away bytes that are still arriving, for a while.

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


def _model_spec(name: str, version: str | None, label: str | None) -> ModelSpec:
    name, label = urllib.parse.unquote(name), urllib.parse.unquote(label or "")
    if not version:
        return ModelSpec(name, label=label)
    number = version_number(version)
    if number is None:
        raise status_codes.invalid_argument(
            f"Failed to convert version: {version} to numeric."
        )
    return ModelSpec(name, number)


def _metadata_json(
    name: str,
    version: int,
    definitions: Mapping[str, meta_graph_pb2.SignatureDef],
) -> bytes:
    # The document is put together by hand: the gRPC message holds an `Any`,
    # which would add an "@type" that the API does not have.
    return _to_json(
        {
            "model_spec": _to_document(ModelSpec(name, version).to_proto()),
            "metadata": {
                "signature_def": _to_document(to_signature_map(definitions))
            },
        }
    )


def _to_document(proto: message.Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        proto,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _to_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()
