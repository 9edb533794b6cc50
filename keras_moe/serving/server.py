"""The embedded model server.

```
python -m keras_moe.serving.server --model_name=g2p \
    --model_base_path=serving/g2p --port=8500 --rest_api_port=8501
```
"""

import argparse
import concurrent.futures
import contextlib
import ipaddress
import logging
import os
import pathlib
import signal
import threading
import time
from collections.abc import Sequence
from types import TracebackType

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_moe.serving.model_service import ModelService
from keras_moe.serving.model_watcher import ModelWatcher
from keras_moe.serving.model_watcher import VersionState
from keras_moe.serving.prediction_service import PredictionService
from keras_moe.serving.rest_api import RestApi
from keras_moe.serving.servable import Servable

_LOG = logging.getLogger(__name__)
# More than this many waiting requests are refused, not hoarded.
_MAX_PORT = 65535
_NO_VERSION = (
    "no version; the folder must hold numbered folders, each with a "
    "saved_model.pb"
)
_MAX_WAITING = 256


class Server:
    """Serves the newest version of a model over TensorFlow Serving's API.

    An embedded model server for tests, demonstrations and machines without
    the stock one. Clients cannot tell the two apart for what it offers, so a
    `tensorflow/serving` container can take its place: gRPC
    `PredictionService` (`Predict`, `GetModelMetadata`) and `ModelService`
    (`GetModelStatus`), REST `/v1/models/NAME[/versions/V]`, `:predict` and
    `/metadata`. There is no authentication: it listens on the loopback
    interface unless told otherwise.

    Example:
    ```python
    with keras_moe.serving.Server("g2p", "serving/g2p") as server:
        server.wait_until_available(timeout=60)
        client = keras_moe.serving.Client(
            "127.0.0.1", server.grpc_port, server.rest_port, model_name="g2p"
        )
        client.predict({"word": ["abacus"]})
    ```

    Args:
        model_name: name that requests give.
        model_base_path: local folder that holds the numbered versions. It is
            watched; it may be empty or missing at first.
        host: address to listen on. Any but a loopback address exposes the
            model to whoever can reach it.
        grpc_port: port for gRPC; 0 takes a free one, `None` leaves gRPC out.
        rest_port: port for REST; 0 takes a free one, `None` leaves REST out.
        poll_seconds: pause between two looks at the folder.
        max_request_bytes: largest request that is read, and largest array
            that may come of it.
        max_workers: gRPC requests that are answered at the same time.
        intra_op_threads: threads that share one operation of a request. One
            suits small requests, which then run on a core each; more suits
            few and large ones.

    Attributes:
        grpc_port: the port that gRPC listens on, or `None`.
        rest_port: the port that REST listens on, or `None`.
    """

    def __init__(
        self,
        model_name: str,
        model_base_path: str | os.PathLike,
        host: str = "127.0.0.1",
        grpc_port: int | None = 0,
        rest_port: int | None = 0,
        poll_seconds: float = 1.0,
        max_request_bytes: int = 64 << 20,
        max_workers: int = 4,
        intra_op_threads: int = 1,
    ):
        if not model_name or set(model_name) & set("/:"):
            raise ValueError(
                "`model_name` must be a name without '/' and ':'. "
                f"Received: model_name={model_name!r}"
            )
        if not host:
            # An empty host means every interface to the socket library.
            raise ValueError(
                "`host` must be given as an address; say '0.0.0.0' to listen "
                f"on every interface. Received: host={host!r}"
            )
        if grpc_port is None and rest_port is None:
            raise ValueError(
                "One of `grpc_port` and `rest_port` must be a port. "
                "Received: grpc_port=None, rest_port=None"
            )
        for name, port in (("grpc_port", grpc_port), ("rest_port", rest_port)):
            if port is not None and not 0 <= port <= _MAX_PORT:
                raise ValueError(
                    f"`{name}` must be in [0, {_MAX_PORT}]. "
                    f"Received: {name}={port}"
                )
        if max_workers < 1:
            raise ValueError(
                "`max_workers` must be at least 1. "
                f"Received: max_workers={max_workers}"
            )
        if poll_seconds <= 0:
            raise ValueError(
                "`poll_seconds` must be positive. "
                f"Received: poll_seconds={poll_seconds}"
            )
        if intra_op_threads < 1:
            raise ValueError(
                "`intra_op_threads` must be at least 1. "
                f"Received: intra_op_threads={intra_op_threads}"
            )
        if not _is_loopback(host):
            _LOG.warning(
                "Listening on %s: whoever can reach this machine can use the "
                "model. There is no authentication.",
                host,
            )
        self._watcher = ModelWatcher(
            model_name,
            pathlib.Path(model_base_path),
            poll_seconds,
            lambda path, version: Servable(
                path, version, max_request_bytes, intra_op_threads
            ),
        )
        self._grpc: grpc.Server | None = None
        self._rest: RestApi | None = None
        self.grpc_port: int | None = None
        self.rest_port: int | None = None
        self._state = "new"
        if rest_port is not None:
            self._rest = _listen_rest(
                host, rest_port, self._watcher, max_request_bytes
            )
            self.rest_port = self._rest.port
        if grpc_port is not None:
            try:
                self._grpc, self.grpc_port = _listen_grpc(
                    host,
                    grpc_port,
                    self._watcher,
                    max_request_bytes,
                    max_workers,
                )
            except BaseException:
                self.stop()
                raise

    @property
    def servable(self) -> Servable | None:
        """The version that answers, for measurements in the same process."""
        return self._watcher.live

    def versions(self) -> dict[int, VersionState]:
        """State of every version seen so far, newest first."""
        return self._watcher.states()

    def start(self) -> "Server":
        """Starts to answer and to load; returns at once."""
        if self._state != "new":
            raise RuntimeError(
                "A server can be started once. Make a new one. "
                f"This one is {self._state}."
            )
        self._state = "started"
        self._watcher.start()
        if self._grpc is not None:
            self._grpc.start()
        if self._rest is not None:
            self._rest.start()
        return self

    def stop(self, grace: float = 5.0) -> None:
        """Stops, letting requests under way finish for `grace` seconds."""
        if self._state == "stopped":
            return
        self._state = "stopped"
        if self._rest is not None:
            self._rest.stop()
        if self._grpc is not None:
            self._grpc.stop(grace).wait()
        self._watcher.stop()

    def wait_until_available(self, timeout: float = 60.0) -> None:
        """Waits until a version answers.

        Raises:
            TimeoutError: none did; the message says what became of each.
        """
        if self._watcher.wait_until_available(timeout):
            return
        states = self.versions()
        seen = "; ".join(
            f"version {version}: {state.state} {state.error_code} "
            f"{state.error_message}".rstrip()
            for version, state in states.items()
        )
        raise TimeoutError(
            f"No version under {self._watcher.base_path} became available in "
            f"{timeout} s. Seen: {seen or _NO_VERSION}"
        )

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _listen_rest(
    host: str, port: int, watcher: ModelWatcher, max_bytes: int
) -> RestApi:
    try:
        return RestApi(host, port, watcher, max_bytes)
    except OSError as error:
        raise OSError(
            "`rest_port` must be a port that can be listened on. "
            f"Received: host={host!r}, rest_port={port}: {error}"
        ) from error


def _listen_grpc(
    host: str, port: int, watcher: ModelWatcher, max_bytes: int, workers: int
) -> tuple[grpc.Server, int]:
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(
            workers, thread_name_prefix="grpc"
        ),
        maximum_concurrent_rpcs=_MAX_WAITING,
        options=[
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
            # Else a second server on the same port takes half the requests.
            ("grpc.so_reuseport", 0),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(watcher, max_bytes), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelService(watcher), server
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    error: Exception | None = None
    bound = 0
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as failure:
        error = failure
    if not bound:
        raise OSError(
            "`grpc_port` must be a port that can be listened on. "
            f"Received: host={host!r}, grpc_port={port}"
        ) from error
    return server, bound


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is told to stop; flags are named as the stock ones."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_moe.serving.server",
        description="The embedded model server of keras_moe.",
    )
    parser.add_argument("--model_name", default="default")
    parser.add_argument("--model_base_path", required=True)
    parser.add_argument("--host", default="127.0.0.1", help="%(default)s")
    parser.add_argument("--port", type=int, default=8500, help="gRPC; 0: none")
    parser.add_argument(
        "--rest_api_port", type=int, default=0, help="REST; 0: none"
    )
    parser.add_argument(
        "--file_system_poll_wait_seconds", type=float, default=1.0
    )
    parser.add_argument(
        "--tensorflow_intra_op_parallelism", type=int, default=1
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    server = Server(
        options.model_name,
        options.model_base_path,
        options.host,
        options.port or None,
        options.rest_api_port or None,
        options.file_system_poll_wait_seconds,
        intra_op_threads=options.tensorflow_intra_op_parallelism,
    )
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    started = time.monotonic()
    with server:
        _LOG.info(
            "Embedded model server: gRPC port %s, REST port %s",
            server.grpc_port,
            server.rest_port,
        )
        stop.wait()
    _LOG.info("Stopped after %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    main()
