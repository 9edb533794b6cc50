"""A client for the embedded model server and the stock one alike."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.protobuf import json_format
from google.protobuf import struct_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe.serving.client._connections import MAX_ANSWER_BYTES
from keras_moe.serving.client._connections import open_channel
from keras_moe.serving.client._connections import url_opener
from keras_moe.serving.client._serving_error import ServingError
from keras_moe.serving.client._values import from_json
from keras_moe.serving.client._values import need_signature
from keras_moe.serving.client._values import to_arrays
from keras_moe.serving.client._values import to_json
from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._signature import read_signatures
from keras_moe.serving.protocol._version_state import VersionState
from keras_moe.serving.protocol._version_state import from_response


class Client:
    """Asks a model server for predictions, over gRPC or REST.

    Answers are the same by both ways: NumPy arrays with the dtypes of the
    signature. Strings are object arrays of `bytes`, as TensorFlow has them;
    decode them with `value.decode()`. (Over REST a server writes strings as
    text, so bytes that are no valid UTF-8 only survive in outputs whose name
    ends in `_bytes`.)

    Args:
        host: the server's address.
        grpc_port: its gRPC port; needed by `predict`.
        rest_port: its REST port; needed by `predict_rest`.
        model_name: the model to ask.
        token: the server's bearer token, if it asks for one.
        certificate_authority: PEM file with what the server's certificate is
            signed by, for a server that shows one; `host` must be a name or
            address that the certificate is for.

    Raises:
        ServingError: by any method, when the server refuses or cannot be
            reached; `code` is the canonical status name.

    Example:
    ```python
    Client(grpc_port=8500, model_name="mine").predict({"inputs": ["abacus"]})
    ```
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        grpc_port: int | None = None,
        rest_port: int | None = None,
        *,
        model_name: str,
        token: str | None = None,
        certificate_authority: str | os.PathLike | None = None,
    ):
        if grpc_port is None and rest_port is None:
            raise ValueError(
                "One of `grpc_port` and `rest_port` must be given. "
                "Received: grpc_port=None, rest_port=None"
            )
        self.model_name = model_name
        bracketed = f"[{host}]" if ":" in host else host
        self._channel: grpc.Channel | None = None
        self._rest: str | None = None
        self._metadata = []
        if token is not None:
            self._metadata = [("authorization", f"Bearer {token}")]
        authority = certificate_authority
        if grpc_port is not None:
            self._channel = open_channel(f"{bracketed}:{grpc_port}", authority)
            self._predictions = (
                prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
            )
            self._models = model_service_pb2_grpc.ModelServiceStub(
                self._channel
            )
        if rest_port is not None:
            scheme = "http" if authority is None else "https"
            self._rest = f"{scheme}://{bracketed}:{rest_port}/v1/models"
            self._opener = url_opener(authority)

    def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "serving_default",
        version: int | None = None,
        timeout: float = 10.0,
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Asks over gRPC.

        Args:
            inputs: input name to array, or to Python numbers or strings and
                lists of them. Numbers take the dtypes of the signature, which
                is asked for first, by a request that arrays do without.
            signature_name: the signature to run.
            version: the version to ask; `None` means the newest.
            timeout: seconds to wait.
            label: the label to ask instead: `"stable"` or `"canary"`.

        Returns:
            Output name to array.

        Raises:
            ValueError: if the inputs have no names, are no arrays, or hold
                numbers that do not fit the dtype.
            ServingError: if the server refuses, or there is none.
        """
        self._need(self._channel, "predict", "grpc_port")
        request = predict_pb2.PredictRequest(
            model_spec=self._spec(version, label).to_proto(signature_name)
        )
        signature = None
        if need_signature(inputs):
            signatures = self._signatures_grpc(version, timeout, label)
            signature = signatures.get(signature_name)
        for name, array in to_arrays(inputs, signature).items():
            request.inputs[name].CopyFrom(tensor_codec.to_proto(array))
        response = self._call(self._predictions.Predict, request, timeout)
        return {
            name: tensor_codec.to_array(name, proto, MAX_ANSWER_BYTES)
            for name, proto in response.outputs.items()
        }

    def predict_rest(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "serving_default",
        version: int | None = None,
        timeout: float = 10.0,
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Asks over REST; arguments and result are those of `predict`.

        JSON has neither dtypes nor, with one output, a name: both are taken
        from the model's metadata, with a second request.
        """
        self._need(self._rest, "predict_rest", "rest_port")
        need_signature(inputs)  # refuses inputs without names
        signatures = self._signatures_rest(version, timeout, label)
        # A server that knows no such signature says so better than we can.
        signature = signatures.get(signature_name)
        arrays = to_arrays(inputs, signature)
        body = {
            "signature_name": signature_name,
            "inputs": {name: to_json(each) for name, each in arrays.items()},
        }
        answer = self._http(
            f"{self._path(version, label)}:predict", timeout, json.dumps(body)
        )["outputs"]
        outputs = {} if signature is None else signature.outputs
        if len(outputs) == 1:
            answer = {next(iter(outputs)): answer}
        if not isinstance(answer, dict) or answer.keys() - outputs.keys():
            raise ServingError(
                "ABORTED", "The model changed meanwhile. Ask again."
            )
        return {
            name: from_json(value, outputs[name].dtype)
            for name, value in answer.items()
        }

    def status(self, timeout: float = 10.0) -> dict[int, VersionState]:
        """Asks for the state of each version, newest first."""
        if self._channel is not None:
            request = get_model_status_pb2.GetModelStatusRequest(
                model_spec=self._spec().to_proto()
            )
            response = self._call(self._models.GetModelStatus, request, timeout)
        else:
            response = json_format.ParseDict(
                self._http(self._path(), timeout),
                get_model_status_pb2.GetModelStatusResponse(),
            )
        return from_response(response)

    def metadata(
        self, version: int | None = None, timeout: float = 10.0
    ) -> dict[str, Signature]:
        """Asks for the signatures: what goes in and what comes out."""
        if self._channel is None:
            return self._signatures_rest(version, timeout)
        return self._signatures_grpc(version, timeout)

    def certificate(
        self, version: int | None = None, timeout: float = 10.0
    ) -> dict[str, Any] | None:
        """Asks what is guaranteed of early exits, or of a cascade.

        Embedded servers know.

        Returns:
            `threshold`, what `bounds` names to be at most `tolerance`,
            `confidence_level`, the number `n` of examples, `p_value`, the
            `fingerprint` of the model, the `digest` of the certificate,
            `is_bound`, whether the graph names it, and of a cascade
            `deferral_share`, the range of the share of deferred rows. `None`
            where nothing is certified.
        """
        if self._channel is None:
            path = f"{self._path(version)}/metadata"
            return self._http(path, timeout)["metadata"].get("certificate")
        found = self._metadata_grpc("certificate", version, timeout)
        if not found.value:
            return None
        summary = struct_pb2.Struct()
        found.Unpack(summary)
        document = json_format.MessageToDict(summary)
        return document | {"n": int(document["n"])}

    def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise ServingError(error.code().name, error.details()) from error

    def _need(self, transport: Any, method: str, argument: str) -> None:
        if transport is None:
            raise ValueError(
                f"`{argument}` must be given to the client for `{method}`. "
                f"Received: {argument}=None"
            )

    def _spec(
        self, version: int | None = None, label: str | None = None
    ) -> ModelSpec:
        _check_choice(version, label)
        return ModelSpec(self.model_name, version, label or "")

    def _path(
        self, version: int | None = None, label: str | None = None
    ) -> str:
        _check_choice(version, label)
        path = "/" + urllib.parse.quote(self.model_name, safe="")
        if label is not None:
            return f"{path}/labels/{urllib.parse.quote(label, safe='')}"
        return path if version is None else f"{path}/versions/{version}"

    def _metadata_grpc(
        self,
        field: str,
        version: int | None,
        timeout: float,
        label: str | None = None,
    ) -> any_pb2.Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(version, label).to_proto(),
            metadata_field=[field],
        )
        return self._call(
            self._predictions.GetModelMetadata, request, timeout
        ).metadata[field]

    def _signatures_grpc(
        self, version: int | None, timeout: float, label: str | None = None
    ) -> dict[str, Signature]:
        found = self._metadata_grpc("signature_def", version, timeout, label)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        found.Unpack(signatures)
        return read_signatures(signatures.signature_def)

    def _signatures_rest(
        self, version: int | None, timeout: float, label: str | None = None
    ) -> dict[str, Signature]:
        document = self._http(f"{self._path(version, label)}/metadata", timeout)
        signatures = json_format.ParseDict(
            document["metadata"]["signature_def"],
            get_model_metadata_pb2.SignatureDefMap(),
        )
        return read_signatures(signatures.signature_def)

    def _http(self, path: str, timeout: float, body: str | None = None) -> Any:
        request = urllib.request.Request(
            f"{self._rest}{path}",
            data=None if body is None else body.encode(),
            headers={"Content-Type": "application/json"} | dict(self._metadata),
        )
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                text = json.loads(text)["error"]
            except (KeyError, TypeError, ValueError):
                pass
            raise ServingError(
                status_codes.from_http_status(error.code), text
            ) from error
        except TimeoutError as error:
            raise ServingError(
                "DEADLINE_EXCEEDED", f"No answer in {timeout} s."
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServingError(
                "UNAVAILABLE", f"{request.full_url}: {error}"
            ) from error


def _check_choice(version: int | None, label: str | None) -> None:
    if version is not None and label is not None:
        raise ValueError(
            "Only one of `version` and `label` may be given. "
            f"Received: version={version}, label={label!r}"
        )
