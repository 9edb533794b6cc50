"""The embedded model server over gRPC: answers and refusals."""

import threading
import time

import grpc
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

from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics


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


def test_an_answer_that_nobody_gets_is_no_success(
    server, predictions, monkeypatch, eventually
):
    """It was counted as OK, after the client or the server had gone."""
    begun, may_end, codes = threading.Event(), threading.Event(), []
    predict, count = ModelApi.predict, ServerMetrics.count_request

    def wait_and_predict(*arguments):
        begun.set()
        may_end.wait(20)
        return predict(*arguments)

    def note(metrics, api, method, code, *facts):
        codes.append(code)
        count(metrics, api, method, code, *facts)

    monkeypatch.setattr(ModelApi, "predict", wait_and_predict)
    monkeypatch.setattr(ServerMetrics, "count_request", note)
    asked = predictions.Predict.future(make_request({"word": ["ab"]}))
    assert begun.wait(20)
    asked.cancel()
    time.sleep(0.5)  # the server is told so
    may_end.set()
    eventually(lambda: codes)
    assert codes == ["CANCELLED"]


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

    @pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff", b"no"])
    def test_what_is_no_message(self, channel, data):
        for method in (
            "PredictionService/Predict",
            "ModelService/GetModelStatus",
        ):
            call = channel.unary_unary(f"/tensorflow.serving.{method}")
            code, details = refusal(call, data)
            assert code == "INVALID_ARGUMENT"
            assert "could not be parsed" in details

    def test_what_is_no_method(self, channel):
        call = channel.unary_unary("/tensorflow.serving.Nothing/Here")
        assert refusal(call, b"")[0] == "UNIMPLEMENTED"

    def test_tensor_bomb(self, predictions):
        bomb = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[b"x"]
        )
        for size in (1, 1 << 20, 1 << 20, 1 << 20):
            bomb.tensor_shape.dim.add().size = size

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

    @pytest.mark.parametrize("label", ["stable", "canary"])
    def test_version_label(self, predictions, models_stub, label):
        request = make_request({"word": ["a"]})
        request.model_spec.version_label = label
        response = predictions.Predict(request, timeout=10)
        assert response.model_spec.version.value == 3

        metadata = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=request.model_spec, metadata_field=["signature_def"]
        )
        answer = predictions.GetModelMetadata(metadata, timeout=10)
        assert answer.model_spec.version.value == 3
        status = get_model_status_pb2.GetModelStatusRequest(
            model_spec=request.model_spec
        )
        (entry,) = models_stub.GetModelStatus(status).model_version_status
        assert entry.version == 3

    def test_unknown_version_label(self, predictions):
        request = make_request({"word": ["a"]})
        request.model_spec.version_label = "beta"

        code, details = refusal(predictions.Predict, request)

        assert code == "INVALID_ARGUMENT"
        assert "Unrecognized servable version label: beta" in details

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
