"""Clients that ask all the time, each over a connection of its own."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks.serving.server_process import MODEL

_TIMEOUT = 30.0
# Maps the name of an output to the model's answer for one word.
Answer = dict[str, Any]
Ask = Callable[[str], tuple[int | None, Answer]]


class Load(NamedTuple):
    """What became of the requests.

    Attributes:
        seconds: of each request that was answered.
        failures: what went wrong, in words.
        elapsed: seconds that all of it took.
    """

    seconds: list[float]
    failures: list[str]
    elapsed: float

    def milliseconds(self, percentile: float) -> float:
        """Gives a percentile of the latency."""
        return 1000 * float(np.percentile(self.seconds, percentile))

    def per_second(self) -> float:
        """Gives the throughput."""
        return len(self.seconds) / self.elapsed


def words_proto(words: Sequence[str]) -> tensor_pb2.TensorProto:
    """Returns words as a tensor of strings, `[words]`."""
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        string_val=[word.encode() for word in words],
    )
    proto.tensor_shape.dim.add(size=len(words))
    return proto


@contextlib.contextmanager
def grpc_client(port: int, label: str = "") -> Iterator[Ask]:
    """Gives a function that asks for one word over gRPC.

    Args:
        port: of the server.
        label: the version label to ask; empty for none.

    Yields:
        Word to the version that answered, and its answer.
    """
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        if label:
            request.model_spec.version_label = label

        def ask(word: str) -> tuple[int | None, Answer]:
            request.inputs["word"].CopyFrom(words_proto([word]))
            response = stub.Predict(request, timeout=_TIMEOUT)
            answer = {
                name: tf.make_ndarray(proto).tolist()[0]
                for name, proto in response.outputs.items()
            }
            return response.model_spec.version.value, answer

        yield ask


@contextlib.contextmanager
def rest_client(port: int, label: str = "") -> Iterator[Ask]:
    """Gives a function that asks for one word over a kept REST connection.

    Args:
        port: of the server.
        label: the version label to ask; empty for none.

    Yields:
        Word to nothing (REST does not say which version) and its answer.
    """
    path = f"/v1/models/{MODEL}{f'/labels/{label}' if label else ''}:predict"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

    def ask(word: str) -> tuple[int | None, Answer]:
        connection.request("POST", path, json.dumps({"instances": [word]}))
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise OSError(f"HTTP {response.status}: {body.decode()}")
        return None, json.loads(body)["predictions"][0]

    with contextlib.closing(connection):
        yield ask


def run_clients(
    clients: list[contextlib.AbstractContextManager[Ask]],
    words: list[str],
    seconds: float,
    check: Callable[[str, int | None, Answer], bool] | None = None,
    stop: threading.Event | None = None,
) -> Load:
    """Has clients ask, one thread each, as fast as they are answered.

    Args:
        clients: what asks.
        words: to ask for, in turns.
        seconds: how long, at most.
        check: tells whether an answer is right; a wrong one is a failure.
        stop: ends it earlier.

    Returns:
        What became of it.
    """
    stop = stop or threading.Event()
    times: list[list[float]] = [[] for _ in clients]
    failures: list[str] = []
    ready = threading.Barrier(len(clients) + 1)

    def work(index: int) -> None:
        with clients[index] as ask:
            ask(words[0])  # connects
            ready.wait()
            number = index
            while not stop.is_set():
                word = words[number % len(words)]
                number += 1
                start = time.perf_counter()
                try:
                    version, answer = ask(word)
                except (grpc.RpcError, OSError, ValueError) as error:
                    failures.append(f"{word}: {error}")
                    continue
                times[index].append(time.perf_counter() - start)
                if check is not None and not check(word, version, answer):
                    failures.append(f"{word}: version {version}: {answer}")

    threads = [
        threading.Thread(target=work, args=[index], daemon=True)
        for index in range(len(clients))
    ]
    for thread in threads:
        thread.start()
    ready.wait(_TIMEOUT)
    start = time.perf_counter()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(_TIMEOUT)
    elapsed = time.perf_counter() - start
    return Load([t for each in times for t in each], failures, elapsed)
