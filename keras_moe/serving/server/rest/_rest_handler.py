"""TensorFlow Serving's REST API: what is answered, whoever asks."""

import json
import re
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf import message
from starlette.responses import Response
from tensorflow.core.protobuf import meta_graph_pb2

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._signature import to_signature_map
from keras_moe.serving.protocol._version_state import to_response
from keras_moe.serving.server import _server_metrics as server_metrics
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.rest import _json_answer as json_answer
from keras_moe.serving.server.rest import _json_codec as json_codec
from keras_moe.serving.versions._certification import Certification
from keras_moe.serving.versions._version_folders import version_number

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
POST = re.compile(_MODEL + r":(classify|regress|predict)", re.IGNORECASE)
GET = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
METRICS = re.compile(re.escape(server_metrics.PATH))
ANYTHING = re.compile(r".*")
JSON = "application/json"
_GZIP = 16 + zlib.MAX_WBITS  # zlib's name for gzip's header
# What a value of a JSON body takes in memory, roughly.
_BYTES_PER_VALUE = 64


class RestHandler:
    """Answers requests whose path is known and whose body has come.

    Args:
        api: answers what is asked.
        metrics: what is exposed.
        max_body_bytes: largest body, unpacked.
        max_rows: most examples of a request.
    """

    def __init__(
        self,
        api: ModelApi,
        metrics: ServerMetrics,
        max_body_bytes: int,
        max_rows: int,
    ):
        self._api = api
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_rows = max_rows

    def unpack(self, body: bytes, encoding: str) -> bytes:
        """Unpacks a body.

        Args:
            body: as it came.
            encoding: its Content-Encoding, if it has one.

        Raises:
            tf.errors.InvalidArgumentError: it cannot be unpacked.
        """
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

    def expose(self, call: Call, path: re.Match[str], body: bytes) -> Response:
        """Answers with the metrics.

        Args:
            call: is told the method.
            path: of the request.
            body: is not looked at.
        """
        call.method = "Metrics"
        return Response(
            self._metrics.expose(), media_type=server_metrics.CONTENT_TYPE
        )

    def describe(
        self, call: Call, path: re.Match[str], body: bytes
    ) -> Response:
        """Answers with the state or the metadata of a model.

        Args:
            call: is told the method.
            path: matches `GET`.
            body: is not looked at.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        spec = _model_spec(*path.group(1, 2, 3))
        if path[4]:
            call.method = "GetModelMetadata"
            content = to_json(
                metadata_document(spec.name, *self._api.metadata(spec))
            )
        else:
            call.method = "GetModelStatus"
            response = to_response(self._api.status(spec))
            content = to_json(_to_document(response))
        return Response(content, media_type=JSON)

    def predict(self, call: Call, path: re.Match[str], body: bytes) -> Response:
        """Answers with what a model predicts.

        Args:
            call: is told method and version.
            path: matches `POST`.
            body: JSON.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        spec = _model_spec(*path.group(1, 2, 3))
        if path[4].lower() != "predict":
            raise status_codes.unimplemented(
                f":{path[4]} is not offered by the embedded model server. "
                "Use :predict."
            )
        call.method = "Predict"
        question = json_codec.parse(
            body, self._max_body_bytes // _BYTES_PER_VALUE
        )
        prediction = self._api.predict(
            call,
            spec,
            question.signature_name,
            lambda signature: json_codec.decode(
                question, signature, self._max_rows
            ),
        )
        return Response(
            json_answer.encode(prediction.outputs, question.is_row),
            media_type=JSON,
        )

    def allow(self, call: Call, path: re.Match[str], body: bytes) -> Response:
        """Answers which methods there are.

        Args:
            call: is told nothing.
            path: of the request.
            body: is not looked at.
        """
        methods = "GET, HEAD, OPTIONS"
        if path[0] == "*":  # the server, and not a resource of it
            methods = "GET, HEAD, POST, OPTIONS"
        elif POST.fullmatch(path[0]):
            methods = "POST, OPTIONS"
        return Response(b"{}", headers={"Allow": methods}, media_type=JSON)


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


def metadata_document(
    name: str,
    version: int,
    definitions: Mapping[str, meta_graph_pb2.SignatureDef],
    certification: Certification | None,
) -> dict[str, Any]:
    """Gives the metadata of a version as plain values.

    Args:
        name: of the model.
        version: its number.
        definitions: its signatures.
        certification: what is guaranteed of it, if anything.
    """
    # The document is put together by hand: the gRPC message holds an `Any`,
    # which would add an "@type" that the API does not have.
    metadata = {"signature_def": _to_document(to_signature_map(definitions))}
    if certification is not None:
        metadata["certificate"] = certification.summary()
    return {
        "model_spec": _to_document(ModelSpec(name, version).to_proto()),
        "metadata": metadata,
    }


def _to_document(proto: message.Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        proto,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def to_json(document: dict[str, Any]) -> bytes:
    """Writes a document as JSON that people can read."""
    return json.dumps(document, indent=1).encode()
