"""The embedded model server: what it answers, and what it refuses."""

import http.client
import os
import signal
import socket
import threading

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis import regression_pb2

from keras_moe import serving
from keras_moe.serving import tensor_codec
from keras_moe.serving.server import main as server_main
from tests.serving import toy_model

PREDICT = "/v1/models/toy:predict"


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def predictions(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models_stub(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def make_request(inputs, name="toy", signature="", version=None):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tensor_codec.to_proto(tensor_codec.as_array(value))
        request.inputs[key].CopyFrom(value)
    return request


def refusal(method, request):
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=10)
    return caught.value.code().name, caught.value.details()


class TestGrpc:
    def test_predict_fills_what_stock_clients_read(self, predictions):
        response = predictions.Predict(
            make_request({"word": ["ab", "c"]}), timeout=10
        )

        assert response.model_spec.name == "toy"
        assert response.model_spec.version.value == 3
        assert response.model_spec.signature_name == "serving_default"
        assert list(response.outputs["phonemes"].string_val) == [b"AB", b"C"]
        assert list(response.outputs["score"].float_val) == [2.0, 1.0]

    def test_output_filter(self, predictions):
        request = make_request({"word": ["ab"]})
        request.output_filter.append("score")

        response = predictions.Predict(request, timeout=10)

        assert list(response.outputs) == ["score"]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["nothing"], "output tensor alias not found"),
            (["score", "score"], "duplicate output"),
        ],
    )
    def test_bad_output_filter(self, predictions, names, message):
        request = make_request({"word": ["ab"]})
        request.output_filter.extend(names)

        code, details = refusal(predictions.Predict, request)

        assert code == "INVALID_ARGUMENT"
        assert message in details

    def test_pinned_version(self, predictions):
        request = make_request({"word": ["ab"]}, version=3)

        assert predictions.Predict(request, timeout=10).outputs

    @pytest.mark.parametrize(
        ("request_", "code", "message"),
        [
            (
                make_request({"word": ["a"]}, name="other"),
                "NOT_FOUND",
                "Servable not found for request: Latest(other)",
            ),
            (
                make_request({"word": ["a"]}, version=9),
                "NOT_FOUND",
                "Servable not found for request: Specific(toy, 9)",
            ),
            # The stock server's code for it, over gRPC.
            (
                make_request({"word": ["a"]}, signature="nothing"),
                "FAILED_PRECONDITION",
                'Serving signature key "nothing" not found.',
            ),
            (make_request({}), "INVALID_ARGUMENT", "required: {word}"),
            (
                make_request({"word": ["a"], "x": ["b"]}),
                "INVALID_ARGUMENT",
                "Sent extra: {x}",
            ),
            (
                make_request({"word": [1.0]}),
                "INVALID_ARGUMENT",
                'input "word" of signature "serving_default" to be string '
                "but got float32",
            ),
            (
                make_request({"pair": [[1, 2]]}, signature="ratio"),
                "INVALID_ARGUMENT",
                "to be float32 but got int32",
            ),
            (
                make_request({"word": [["a"]]}),
                "INVALID_ARGUMENT",
                "to have shape [None] but got shape [1, 1]",
            ),
            (
                make_request({"pair": [[1.0, 2, 3]]}, signature="ratio"),
                "INVALID_ARGUMENT",
                "to have shape [None, 2] but got shape [1, 3]",
            ),
            (
                make_request({"word": ["no number"]}, signature="number"),
                "INVALID_ARGUMENT",
                "could not correctly convert string: no number",
            ),
        ],
    )
    def test_refusals(self, predictions, request_, code, message):
        received, details = refusal(predictions.Predict, request_)

        assert received == code
        assert message in details
        assert predictions.Predict(make_request({"word": ["a"]}), timeout=10)

    def test_tensor_bomb(self, predictions):
        bomb = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[b"x"]
        )
        for _ in range(4):
            bomb.tensor_shape.dim.add().size = 1 << 20

        code, details = refusal(
            predictions.Predict, make_request({"word": bomb})
        )

        assert code == "INVALID_ARGUMENT"
        assert "at most 1048576 bytes" in details

    def test_too_large(self, predictions):
        request = make_request({"word": ["x" * (2 << 20)]})

        assert refusal(predictions.Predict, request)[0] == "RESOURCE_EXHAUSTED"

    def test_long_and_odd_strings(self, predictions):
        words = ["", "x" * 10_000, "zürich", "\x00", "日本"]

        response = predictions.Predict(
            make_request({"word": words}), timeout=10
        )

        assert response.outputs["score"].float_val[1] == 10_000

    def test_version_label(self, predictions):
        request = make_request({"word": ["a"]})
        request.model_spec.version_label = "canary"

        code, details = refusal(predictions.Predict, request)

        assert code == "INVALID_ARGUMENT"
        assert "Unrecognized servable version label: canary" in details

    def test_unimplemented(self, predictions, models_stub):
        for method, request in (
            (predictions.Classify, classification_pb2.ClassificationRequest()),
            (predictions.Regress, regression_pb2.RegressionRequest()),
            (
                predictions.MultiInference,
                inference_pb2.MultiInferenceRequest(),
            ),
            (
                models_stub.HandleReloadConfigRequest,
                model_management_pb2.ReloadConfigRequest(),
            ),
        ):
            assert refusal(method, request)[0] == "UNIMPLEMENTED"

    def test_metadata_request_must_name_a_field(self, predictions):
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "toy"
        assert refusal(predictions.GetModelMetadata, request) == (
            "INVALID_ARGUMENT",
            "GetModelMetadataRequest must specify at least one metadata_field",
        )

        request.metadata_field.append("weather")
        code, details = refusal(predictions.GetModelMetadata, request)
        assert code == "INVALID_ARGUMENT"
        assert "weather" in details

    def test_status(self, models_stub):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "toy"

        (entry,) = models_stub.GetModelStatus(
            request, timeout=10
        ).model_version_status

        assert entry.version == 3
        assert entry.state == entry.AVAILABLE

        request.model_spec.version.value = 8
        assert refusal(models_stub.GetModelStatus, request) == (
            "NOT_FOUND",
            "Could not find version 8 of model toy",
        )
        request.model_spec.name = "other"
        assert refusal(models_stub.GetModelStatus, request)[0] == "NOT_FOUND"


class TestRest:
    def test_row_format(self, rest):
        assert rest(PREDICT, {"instances": ["ab", "c"]}) == (
            200,
            {
                "predictions": [
                    {"phonemes": "AB", "score": 2.0},
                    {"phonemes": "C", "score": 1.0},
                ]
            },
        )

    def test_row_format_with_names(self, rest):
        rows = [{"word": "ab", "threshold": 3}, {"word": "c", "threshold": 0.5}]

        assert rest(
            PREDICT, {"signature_name": "with_threshold", "instances": rows}
        ) == (200, {"predictions": [0, 1]})

    def test_column_format(self, rest):
        expected = {"phonemes": ["AB"], "score": [2.0]}
        for inputs in (["ab"], {"word": ["ab"]}, [{"b64": "YWI="}]):
            assert rest(PREDICT, {"inputs": inputs}) == (
                200,
                {"outputs": expected},
            )

    def test_pinned_version(self, rest):
        body = {"instances": ["a"]}
        assert rest("/v1/models/toy/versions/3:predict", body)[0] == 200
        assert rest("/v1/models/toy/versions/4:predict", body) == (
            404,
            {"error": "Servable not found for request: Specific(toy, 4)"},
        )

    def test_bytes_output(self, rest):
        status, document = rest(
            PREDICT, {"signature_name": "number", "inputs": ["12"]}
        )

        assert status == 200
        assert document["outputs"] == {
            "raw_bytes": [{"b64": "MTL/"}],
            "value": [12.0],
        }

    def test_not_a_number_and_infinity(self, rest):
        pairs = [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.1, 1.0]]

        status, document = rest(
            PREDICT, {"signature_name": "ratio", "instances": pairs}
        )

        values = document["predictions"]
        assert status == 200
        assert values[:2] == [np.inf, -np.inf]
        assert np.isnan(values[2])
        # The shortest text of the float32, as the stock server prints it.
        assert values[3] == 0.1
        nan = b'{"signature_name": "ratio", "inputs": [[NaN, -Infinity]]}'
        assert np.isnan(rest(PREDICT, nan)[1]["outputs"][0])

    def test_scalar_outputs_need_columns(self, rest):
        body = {"signature_name": "count", "inputs": ["a", "b"]}
        assert rest(PREDICT, body) == (
            200,
            {"outputs": {"count": 2, "first": "a"}},
        )

        body["instances"] = body.pop("inputs")
        status, document = rest(PREDICT, body)
        assert status == 400
        assert "inconsistent batch size" in document["error"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "JSON Parse error"),
            (b"{", "JSON Parse error"),
            (b"[1]", "Is not object"),
            (b"[" * 100_000, "JSON Parse error"),
            (b"\xff\xfe\xfa", "JSON Parse error"),
            ({}, "Missing 'inputs' or 'instances' key"),
            ({"inputs": ["a"], "instances": ["a"]}, "only one of"),
            ({"instances": []}, "at least one element"),
            ({"instances": "a"}, "to be a list"),
            ({"instances": ["a"], "signature_name": 1}, "must be a string"),
            (
                {"instances": ["a"], "signature_name": "nothing"},
                'Serving signature key "nothing" not found',
            ),
            ({"instances": [1.5]}, "is not of expected type: string"),
            ({"instances": [None]}, "is not of expected type: string"),
            ({"instances": ["a", ["b"]]}, "is not of expected type"),
            ({"inputs": [["a"], ["b", "c"]]}, "dense tensor"),
            ({"inputs": [["a"]]}, "to have shape [None] but got shape [1, 1]"),
            ({"inputs": {"x": ["a"]}}, "does not have named input: x"),
            ({"inputs": {}}, "Missing but required: {word}"),
            ({"instances": [{"x": "a"}]}, "keys must be equal to: word"),
            ({"instances": [{"word": "a"}, "b"]}, "keys must be equal to"),
            ({"instances": [{"b64": "?"}]}, "Unable to base64 decode"),
            (b'{"instances": ["\\ud800"]}', "not of expected type: string"),
            (
                {"signature_name": "with_threshold", "instances": ["a"]},
                "multiple input tensors",
            ),
            (
                {"signature_name": "with_threshold", "inputs": ["a"]},
                "multiple input tensors",
            ),
            (
                {"signature_name": "ratio", "inputs": [[True, 1]]},
                "is not of expected type: float32",
            ),
            (
                {"signature_name": "ratio", "inputs": [["1", 1]]},
                "is not of expected type: float32",
            ),
            (
                {"signature_name": "ratio", "inputs": [[10**400, 1]]},
                "must fit float32",
            ),
            (
                {"signature_name": "number", "inputs": ["no number"]},
                "could not correctly convert string",
            ),
        ],
    )
    def test_bad_bodies(self, rest, body, message):
        status, document = rest(PREDICT, body)

        assert status == 400
        assert message in document["error"]
        assert rest(PREDICT, {"instances": ["a"]})[0] == 200

    @pytest.mark.parametrize(
        ("path", "body", "status", "message"),
        [
            ("/v1/models/other:predict", {"instances": ["a"]}, 404, "Latest"),
            ("/v1/models/other", None, 404, "Could not find any versions"),
            ("/v1/models/toy/versions/7", None, 404, "version 7"),
            ("/v1/models/toy/labels/x", None, 400, "version label: x"),
            ("/v1/models/other/metadata", None, 404, "Latest(other)"),
            ("/v1/models/toy:explain", {}, 400, "Malformed request: POST"),
            ("/v1/models/toy:predict", None, 400, "Malformed request: GET"),
            ("/v1/models/toy:classify", {}, 501, "classify"),
            ("/", None, 400, "Malformed request: GET /"),
            (f"/v1/models/toy/versions/{'9' * 30}", None, 400, "numeric"),
        ],
    )
    def test_bad_paths(self, rest, path, body, status, message):
        received, document = rest(path, body)

        assert received == status
        assert message in document["error"]

    def test_too_large(self, rest):
        headers = {"Content-Length": str(2 << 20)}

        status, document = rest(PREDICT, b"{}", headers)

        assert status == 413
        assert "at most 1048576 bytes" in document["error"]

    def test_length_must_be_known(self, rest):
        for headers, expected in (
            ({"Transfer-Encoding": "chunked"}, 411),
            ({"Content-Length": "-1"}, 400),
        ):
            assert rest(PREDICT, b"{}", headers)[0] == expected

    def test_other_methods_are_refused_in_json(self, server):
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_port, timeout=10
        )
        connection.request("PUT", PREDICT, b"{}")
        response = connection.getresponse()

        assert response.status == 501
        assert b'"error"' in response.read()

    def test_noise_and_broken_connections(self, server, rest):
        for noise in (b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"POST / HT"):
            with socket.create_connection(
                ("127.0.0.1", server.rest_port), timeout=10
            ) as connection:
                connection.sendall(noise)

        assert rest(PREDICT, {"instances": ["a"]})[0] == 200

    def test_connection_is_kept(self, server):
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_port, timeout=10
        )
        for body in (b'{"instances": ["a"]}', b"{", b'{"instances": ["a"]}'):
            connection.request("POST", PREDICT, body)
            response = connection.getresponse()
            response.read()
            assert response.status == (400 if body == b"{" else 200)

    def test_status(self, rest):
        expected = {
            "model_version_status": [
                {
                    "version": "3",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }
        assert rest("/v1/models/toy") == (200, expected)
        assert rest("/v1/models/toy/versions/3") == (200, expected)

    def test_metadata(self, rest):
        status, document = rest("/v1/models/toy/metadata")

        assert status == 200
        assert document["model_spec"]["name"] == "toy"
        assert document["model_spec"]["version"] == "3"
        signatures = document["metadata"]["signature_def"]["signature_def"]
        word = signatures["serving_default"]["inputs"]["word"]
        assert word == {
            "name": "serving_default_word:0",
            "dtype": "DT_STRING",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}],
                "unknown_rank": False,
            },
        }


class TestServer:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"model_name": "a/b"}, "`model_name`"),
            ({"host": ""}, "`host`"),
            ({"poll_seconds": 0}, "`poll_seconds`"),
            ({"intra_op_threads": 0}, "`intra_op_threads`"),
            ({"grpc_port": None, "rest_port": None}, "`grpc_port`"),
        ],
    )
    def test_bad_arguments(self, tmp_path, arguments, message):
        arguments = {"model_name": "toy", **arguments}

        with pytest.raises(ValueError, match=message):
            serving.Server(model_base_path=tmp_path, **arguments)

    def test_taken_ports(self, server, tmp_path):
        with pytest.raises(OSError, match="`grpc_port`"):
            serving.Server("toy", tmp_path, grpc_port=server.grpc_port)
        with pytest.raises(OSError, match="`rest_port`"):
            serving.Server("toy", tmp_path, rest_port=server.rest_port)

    def test_listens_on_loopback_only(self, tmp_path, caplog):
        serving.Server("toy", tmp_path).stop()
        assert not caplog.records

        serving.Server("toy", tmp_path, host="0.0.0.0").stop()
        assert "no authentication" in caplog.text

    def test_starts_once(self, tmp_path):
        server = serving.Server("toy", tmp_path)
        with server:
            with pytest.raises(RuntimeError, match="started once"):
                server.start()
        server.stop()

    def test_says_what_it_waited_for(self, tmp_path):
        with serving.Server("toy", tmp_path / "missing") as server:
            with pytest.raises(TimeoutError, match="missing.*no version"):
                server.wait_until_available(0.1)

    def test_command_line(self, models, tmp_path, eventually):
        toy_model.push(models[2], tmp_path / "toy", 1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        client = serving.Client(rest_port=port, model_name="toy")
        answers = []

        def ask():
            try:
                answers.append(client.predict_rest({"word": ["ab"]}))
            except serving.ServingError:
                pass
            return answers

        def ask_and_stop():
            try:
                eventually(ask)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        # The server has the main thread, as signals need it; in this process,
        # since TensorFlow takes long to start.
        asking = threading.Thread(target=ask_and_stop)
        handlers = {
            name: signal.getsignal(name)
            for name in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            asking.start()
            server_main(
                [
                    "--model_name=toy",
                    f"--model_base_path={tmp_path / 'toy'}",
                    "--port=0",
                    f"--rest_api_port={port}",
                ]
            )
        finally:
            asking.join()
            for name, handler in handlers.items():
                signal.signal(name, handler)

        assert answers[0]["score"].tolist() == [4.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grpc_port": -5}, "`grpc_port` must be in .*grpc_port=-5"),
        ({"rest_port": 65536}, "`rest_port` must be in .*rest_port=65536"),
        ({"max_workers": 0}, "`max_workers` must be at least 1"),
    ],
)
def test_numbers_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        serving.Server("m", tmp_path, **arguments)


def test_a_folder_without_versions_is_explained(tmp_path):
    with serving.Server("m", tmp_path) as server:
        with pytest.raises(TimeoutError, match="numbered folders"):
            server.wait_until_available(0.1)
