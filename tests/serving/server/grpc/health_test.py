"""`grpc.health.v1`, as probes ask it."""

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc

from keras_moe import serving
from tests.serving import toy_model

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = (
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)


def check(port, service=""):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        return stub.Check(request, timeout=10).status


def test_serving_as_soon_as_a_version_answers(models, tmp_path):
    base = tmp_path / "toy"
    with serving.Server("toy", base, poll_seconds=0.05) as server:
        port = server.grpc_port
        assert {check(port, name) for name in SERVICES} == {NOT_SERVING}
        toy_model.push(models[1], base, 1)
        server.wait_until_available()
        assert {check(port, name) for name in SERVICES} == {SERVING}


def test_other_services(server):
    with pytest.raises(grpc.RpcError) as caught:
        check(server.grpc_port, "other")
    assert caught.value.code().name == "NOT_FOUND"


def test_watching_is_refused_at_once(server):
    """Each watch would hold a thread."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        method = channel.stream_stream("/grpc.health.v1.Health/Watch")
        with pytest.raises(grpc.RpcError) as caught:
            next(method(iter(()), timeout=10))
    assert caught.value.code().name == "UNIMPLEMENTED"


def test_the_token_is_for_probes_too(models, tmp_path):
    toy_model.push(models[1], tmp_path / "toy", 1)
    token = "a-long-enough-secret"
    with serving.Server("toy", tmp_path / "toy", token=token) as server:
        with pytest.raises(grpc.RpcError) as caught:
            check(server.grpc_port)
    assert caught.value.code().name == "UNAUTHENTICATED"
