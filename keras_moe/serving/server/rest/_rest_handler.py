"""TensorFlow Serving's REST API: requests, wherever they came from."""

import contextlib
import http
import json
import re
import threading
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Any

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
from keras_moe.serving.server.rest import _json_answer as json_answer
from keras_moe.serving.server.rest import _json_codec as json_codec
from keras_moe.serving.server.rest._http_connection import HttpAnswer
from keras_moe.serving.server.rest._http_connection import HttpRequest
from keras_moe.serving.server.rest._http_connection import refusal
from keras_moe.serving.versions._certification import Certification
from keras_moe.serving.versions._version_folders import version_number

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(_MODEL + r":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
_GZIP = 16 + zlib.MAX_WBITS  # zlib's name for gzip's header
# What a value of a JSON body takes in memory, roughly.
_BYTES_PER_VALUE = 64
# Bodies above this size are parsed and run two at a time.
_LARGE_BYTES, _LARGE_AT_A_TIME = 1 << 20, 2


class RestHandler:
    """Answers requests, of all connections.

    Args:
        api: answers what is asked.
        metrics: counts the requests, and is exposed.
        gate: says who may ask.
        max_body_bytes: largest body to read.
        max_rows: most examples of a request.
    """

    def __init__(
        self,
        api: ModelApi,
        metrics: ServerMetrics,
        gate: Gate,
        max_body_bytes: int,
        max_rows: int,
    ):
        self._api = api
        self._metrics = metrics
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._max_rows = max_rows
        self._large = threading.BoundedSemaphore(_LARGE_AT_A_TIME)

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answers a request.

        Args:
            request: its head; the body is read in here.

        Returns:
            The answer; errors are answers, too.

        Raises:
            ConnectionError: the client broke off.
            TimeoutError: the body takes too long to come.
        """
        try:
            with counted(self._metrics, "rest") as call:
                self._check_gate(call, request)
                self._check_length(call, request)
                body = self._unpack(request, request.read_body())
                return self._route(call, request, body)
        except _Refusal as caught:
            return caught.answer
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            name, message = status_codes.describe(error)
            return HttpAnswer(status_codes.http_status(name), _error(message))

    def _check_gate(self, call: Call, request: HttpRequest) -> None:
        try:
            self._gate.check(request.headers.get("authorization"))
        except tf.errors.OpError as error:
            # A stranger's body is not even read.
            call.code, message = status_codes.describe(error)
            status = status_codes.http_status(call.code)
            headers = []
            if status == http.HTTPStatus.UNAUTHORIZED:
                headers.append(("WWW-Authenticate", "Bearer"))
            raise _Refusal(refusal(status, message, *headers)) from error

    def _check_length(self, call: Call, request: HttpRequest) -> None:
        # A client that waits for "100 Continue" need not send a body that
        # would be refused.
        length = int(request.headers.get("content-length", "0"))
        if "transfer-encoding" in request.headers:
            call.code = "INVALID_ARGUMENT"
            raise _Refusal(
                refusal(411, "The body must come with a Content-Length.")
            )
        if length > self._max_body_bytes:
            call.code = "RESOURCE_EXHAUSTED"
            raise _Refusal(
                refusal(
                    413,
                    f"The body must have at most {self._max_body_bytes} bytes. "
                    f"Received: {length}",
                )
            )

    def _unpack(self, request: HttpRequest, body: bytes) -> bytes:
        encoding = request.headers.get("content-encoding", "").lower()
        if encoding in ("", "identity"):
            return body
        if encoding not in ("gzip", "x-gzip"):
            raise status_codes.invalid_argument(
                f"Content-Encoding must be gzip. Received: {encoding}"
            )
        unpacker = zlib.decompressobj(_GZIP)
        try:
            # A small body may hold gigabytes.
            unpacked = unpacker.decompress(body, self._max_body_bytes + 1)
        except zlib.error as error:
            raise status_codes.invalid_argument(
                f"The body is not gzip: {error}"
            ) from error
        if len(unpacked) > self._max_body_bytes:
            raise status_codes.invalid_argument(
                f"The body must have at most {self._max_body_bytes} bytes when "
                "it is unpacked."
            )
        if not unpacker.eof or unpacker.unused_data:
            raise status_codes.invalid_argument(
                "The body is not one gzip stream from beginning to end."
            )
        return unpacked

    def _route(
        self, call: Call, request: HttpRequest, body: bytes
    ) -> HttpAnswer:
        path = request.target.partition("?")[0]
        if request.method == "OPTIONS":
            return HttpAnswer(200, b"{}", headers=(("Allow", _allowed(path)),))
        if request.method in ("GET", "HEAD"):
            return self._get(call, path)
        if request.method != "POST":
            call.code = "UNIMPLEMENTED"
            return HttpAnswer(
                501, _error(f"Unsupported method ({request.method!r})")
            )
        if request.is_crowded:
            # The connection is one of those that are kept for what is cheap.
            call.code = "UNAVAILABLE"
            return refusal(
                503, "There are too many connections.", ("Retry-After", "1")
            )
        return self._post(call, path, body)

    def _get(self, call: Call, path: str) -> HttpAnswer:
        if path == server_metrics.PATH:
            call.method = "Metrics"
            return HttpAnswer(
                200, self._metrics.expose(), server_metrics.CONTENT_TYPE
            )
        match = _match(_GET, "GET", path)
        spec = _model_spec(*match.group(1, 2, 3))
        if match[4]:
            call.method = "GetModelMetadata"
            return HttpAnswer(
                200, _metadata_json(spec.name, *self._api.metadata(spec))
            )
        call.method = "GetModelStatus"
        response = to_response(self._api.status(spec))
        return HttpAnswer(200, _to_json(_to_document(response)))

    def _post(self, call: Call, path: str, content: bytes) -> HttpAnswer:
        match = _match(_POST, "POST", path)
        spec = _model_spec(*match.group(1, 2, 3))
        if match[4].lower() != "predict":
            raise status_codes.unimplemented(
                f":{match[4]} is not offered by the embedded model server. "
                "Use :predict."
            )
        call.method = "Predict"
        is_large = len(content) > _LARGE_BYTES
        with self._large if is_large else contextlib.nullcontext():
            body = json_codec.parse(
                content, self._max_body_bytes // _BYTES_PER_VALUE
            )
            prediction = self._api.predict(
                call,
                spec,
                body.signature_name,
                lambda signature: json_codec.decode(
                    body, signature, self._max_rows
                ),
            )
        return HttpAnswer(
            200, json_answer.encode(prediction.outputs, body.is_row)
        )


class _Refusal(Exception):
    """A body that is not even read."""

    def __init__(self, answer: HttpAnswer):
        super().__init__(answer.status)
        self.answer = answer


def _match(pattern: re.Pattern[str], method: str, path: str) -> re.Match[str]:
    match = pattern.fullmatch(path)
    if match is None:
        raise status_codes.invalid_argument(
            f"Malformed request: {method} {path}"
        )
    return match


def _allowed(path: str) -> str:
    if _POST.fullmatch(path):
        return "POST, OPTIONS"
    return "GET, HEAD, OPTIONS"


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
    certification: Certification | None,
) -> bytes:
    # The document is put together by hand: the gRPC message holds an `Any`,
    # which would add an "@type" that the API does not have.
    metadata = {"signature_def": _to_document(to_signature_map(definitions))}
    if certification is not None:
        metadata["certificate"] = certification.summary()
    return _to_json(
        {
            "model_spec": _to_document(ModelSpec(name, version).to_proto()),
            "metadata": metadata,
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
