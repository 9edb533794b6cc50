"""gRPC under attack: calls whose message never comes."""

import contextlib
import threading
import time

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe import serving
from keras_moe.serving.server.grpc import _grpc_api
from keras_moe.serving.server.grpc import _message_wait
from tests.serving import toy_model
from tests.serving.server.grpc.grpc_test import make_request

PREDICT = "/tensorflow.serving.PredictionService/Predict"
TOKEN = "a-long-enough-secret"


@contextlib.contextmanager
def silent_calls(port, connections, each, metadata=()):
    """Begins calls that send no message; gives their futures."""
    over = threading.Event()

    def nothing():
        over.wait(60)
        yield from ()

    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        calls = []
        for _ in range(connections):
            channel = stack.enter_context(
                grpc.insecure_channel(
                    f"127.0.0.1:{port}",
                    [("grpc.use_local_subchannel_pool", 1)],
                )
            )
            method = channel.stream_unary(PREDICT)
            calls += [
                method.future(nothing(), metadata=metadata) for _ in range(each)
            ]
        stack.callback(lambda: [call.cancel() for call in calls])
        yield calls


def predict(port, **options):
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = make_request({"word": ["ab"]})
        answer = stub.Predict(request, timeout=10, **options)
        return list(answer.outputs["score"].float_val)


def code_of(call):
    try:
        call.result(timeout=20)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_silent_calls_stop_nobody(server):
    with silent_calls(server.grpc_port, connections=2, each=8):
        time.sleep(0.2)
        assert predict(server.grpc_port) == [2.0]


def test_no_connection_takes_all(server):
    """One has a share of the calls, however many it begins."""
    share = _grpc_api._MAX_CALLS_PER_CONNECTION
    assert share < _grpc_api._MAX_CALLS
    with silent_calls(server.grpc_port, connections=1, each=300):
        time.sleep(0.5)
        threads = sum(
            thread.name.startswith("grpc_") for thread in threading.enumerate()
        )
        assert threads <= share + 40  # of tests that went before
        assert predict(server.grpc_port) == [2.0]


@pytest.fixture
def toy(models, tmp_path, monkeypatch):
    """Starts a server with other limits."""
    toy_model.push(models[1], tmp_path / "toy", 1)

    @contextlib.contextmanager
    def start(seconds=10.0, most=192, **options):
        monkeypatch.setattr(_grpc_api, "_MESSAGE_SECONDS", seconds)
        monkeypatch.setattr(_grpc_api, "_MAX_SILENT", most)
        monkeypatch.setattr(_message_wait, "_LOOK_SECONDS", 0.1)
        options = {"poll_seconds": 0.05, **options}
        with serving.Server("toy", tmp_path / "toy", **options) as server:
            server.wait_until_available()
            yield server.grpc_port

    return start


def test_the_message_must_come_in_time(toy):
    with toy(seconds=0.3) as port, silent_calls(port, 1, 3) as calls:
        assert [code_of(call) for call in calls] == ["CANCELLED"] * 3


def test_the_oldest_makes_way(toy, monkeypatch):
    monkeypatch.setattr(_message_wait, "_PATIENCE_SECONDS", 0.3)
    with toy(most=2) as port, silent_calls(port, 1, 2) as calls:
        time.sleep(0.4)
        assert predict(port) == [2.0]
        # The client hears of its end in a thread of its own.
        deadline = time.monotonic() + 10
        while not any(call.done() for call in calls):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert sum(call.done() for call in calls) == 1


def test_strangers_are_refused_before_they_have_spoken(toy):
    authorization = (("authorization", f"Bearer {TOKEN}"),)
    with toy(token=TOKEN) as port, silent_calls(port, 2, 8) as calls:
        assert {code_of(call) for call in calls} == {"UNAUTHENTICATED"}
        assert predict(port, metadata=authorization) == [2.0]


def test_a_call_that_ends_without_a_message(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.stream_unary(PREDICT).future(iter(()))
        assert code_of(call) == "INVALID_ARGUMENT"


def test_repeated_rows(server):
    """A few bytes that ask for one example 50,000 times are refused."""
    request = make_request({"word": ["ab"]})
    request.inputs["word"].tensor_shape.dim[0].size = 50_000
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="at most 4096 rows") as caught:
            stub.Predict(request, timeout=10)
    assert caught.value.code().name == "INVALID_ARGUMENT"
