"""The embedded model server.

```
python -m keras_moe.serving.server --model_name=my_model \
    --model_base_path=serving/my_model --port=8500 --rest_api_port=8501
```
"""

import functools
import logging
import os
import pathlib
from types import TracebackType

from keras_moe.serving.protocol._version_state import VersionState
from keras_moe.serving.server._batcher import Batcher
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._model_watcher import ModelWatcher
from keras_moe.serving.server._request_log import RequestLog
from keras_moe.serving.server._servable import Servable
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server._server_settings import ServerSettings
from keras_moe.serving.server._tls import Tls
from keras_moe.serving.server.grpc._grpc_api import GrpcApi
from keras_moe.serving.server.rest._rest_api import RestApi

_LOG = logging.getLogger(__name__)
_NO_VERSION = (
    "no version; the folder must hold numbered folders, each with a "
    "saved_model.pb"
)


class Server:
    """Serves versions of a model over TensorFlow Serving's API.

    An embedded model server for tests, demonstrations and machines without
    the stock one. Clients cannot tell the two apart for what it offers, so a
    `tensorflow/serving` container can take its place: gRPC
    `PredictionService` (`Predict`, `GetModelMetadata`) and `ModelService`
    (`GetModelStatus`), REST `/v1/models/NAME[/versions/V|/labels/L]`,
    `:predict` and `/metadata`, and metrics for Prometheus at
    `/monitoring/prometheus/metrics` of the REST port. Beyond that, `/` of the
    REST port shows people a page to try the model on (see `write_page`).

    The newest version answers unless a request names another, or a label:
    `canary` is the newest, `stable` the promoted one (see `Rollout`). It
    listens on the loopback interface, in the clear and to anybody, unless told
    otherwise.

    Example:
    ```python
    with keras_moe.serving.Server("my_model", "serving/my_model") as server:
        server.wait_until_available(timeout=60)
        client = keras_moe.serving.Client(
            grpc_port=server.grpc_port, model_name="my_model"
        )
        client.predict({"inputs": ["abacus"]})
    ```

    Args:
        model_name: name that requests give.
        model_base_path: local folder that holds the numbered versions. It is
            watched; it may be empty or missing at first. Nothing outside it is
            read.
        host: address to listen on. Any but a loopback address exposes the
            model to whoever can reach it.
        grpc_port: port for gRPC; 0 takes a free one, `None` leaves gRPC out.
        rest_port: port for REST; 0 takes a free one, `None` leaves REST out.
        poll_seconds: pause between two looks at the folder.
        max_request_bytes: largest request that is read, and largest array
            that may come of it. A JSON body may hold a value for each 64 of
            them: it takes that much in memory.
        max_request_rows: most examples of a request: a few bytes can ask for
            one example as often as they like.
        max_workers: requests that run at the same time, of both APIs together;
            by default 4, and 32 with batching.
        intra_op_threads: threads that share one operation of a request. One
            suits small requests, which then run on a core each; more suits
            few and large ones.
        num_versions: versions that are served at a time.
        max_batch_rows: most rows of waiting requests that run together;
            `None` runs each request by itself.
        tls: the certificate to show; `None` speaks in the clear.
        token: what requests must send as `Authorization: Bearer TOKEN`, at
            least 16 characters; `None` lets anyone in.
        requests_per_second: requests that are let in, of all clients together;
            `None` is no limit.
        burst: how many of them may come at once; by default a second's.
        request_log: where a sample of the requests is written; the server
            starts and stops it.

    Attributes:
        grpc_port: the port that gRPC listens on, or `None`.
        rest_port: the port that REST listens on, or `None`.

    Raises:
        ValueError: an argument is out of its range.
        OSError: a port cannot be listened on.
    """

    def __init__(
        self,
        model_name: str,
        model_base_path: str | os.PathLike,
        *,
        host: str = "127.0.0.1",
        grpc_port: int | None = 0,
        rest_port: int | None = 0,
        poll_seconds: float = 1.0,
        max_request_bytes: int = 64 << 20,
        max_request_rows: int = 4096,
        max_workers: int | None = None,
        intra_op_threads: int = 1,
        num_versions: int = 2,
        max_batch_rows: int | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        requests_per_second: float | None = None,
        burst: int | None = None,
        request_log: RequestLog | None = None,
    ):
        settings = ServerSettings(
            model_name=model_name,
            model_base_path=model_base_path,
            host=host,
            grpc_port=grpc_port,
            rest_port=rest_port,
            poll_seconds=poll_seconds,
            max_request_bytes=max_request_bytes,
            max_request_rows=max_request_rows,
            max_workers=max_workers,
            intra_op_threads=intra_op_threads,
            num_versions=num_versions,
            max_batch_rows=max_batch_rows,
            tls=tls,
            token=token,
            requests_per_second=requests_per_second,
            burst=burst,
            request_log=request_log,
        )
        if not settings.is_loopback:
            _warn(settings)
        gate = settings.gate()
        metrics = ServerMetrics()
        self._watcher = ModelWatcher(
            model_name,
            pathlib.Path(model_base_path),
            settings.poll_seconds,
            functools.partial(_load, settings),
            settings.num_versions,
            metrics.drop_version,
        )
        metrics.show_versions(
            self._watcher.states,
            self._watcher.labels,
            self._watcher.certifications,
        )
        batcher = None
        if settings.max_batch_rows is not None:
            batcher = Batcher(settings.max_batch_rows, metrics.count_batch)
        self._log = settings.request_log
        if self._log is not None:
            metrics.show_request_log(self._log.counts)
        api = ModelApi(
            self._watcher, metrics, batcher, self._log, settings.workers
        )
        self._state = "new"
        self._grpc: GrpcApi | None = None
        self._rest: RestApi | None = None
        try:
            if settings.rest_port is not None:
                self._rest = RestApi(settings, api, metrics, gate)
            if settings.grpc_port is not None:
                self._grpc = GrpcApi(settings, api, metrics, gate)
        except BaseException:
            self.stop()
            raise
        self.grpc_port = self._grpc.port if self._grpc else None
        self.rest_port = self._rest.port if self._rest else None

    @property
    def servable(self) -> Servable | None:
        """The newest version, for measurements in the same process."""
        return self._watcher.live

    def versions(self) -> dict[int, VersionState]:
        """State of every version seen so far, newest first."""
        return self._watcher.states()

    def labels(self) -> dict[str, int]:
        """The version that each label means now."""
        return self._watcher.labels()

    def start(self) -> "Server":
        """Starts to answer and to load; returns at once."""
        if self._state != "new":
            raise RuntimeError(
                "A server can be started once. Make a new one. "
                f"This one is {self._state}."
            )
        self._state = "started"
        if self._log is not None:
            self._log.start()
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
            self._rest.stop(grace)
        if self._grpc is not None:
            self._grpc.stop(grace)
        self._watcher.stop(grace)
        if self._log is not None:
            self._log.stop()

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


def _load(
    settings: ServerSettings, path: pathlib.Path, version: int
) -> Servable:
    return Servable(
        path, version, settings.max_request_bytes, settings.intra_op_threads
    )


def _warn(settings: ServerSettings) -> None:
    missing = []
    if settings.token is None:
        missing.append("no authentication (`token`)")
    if settings.tls is None:
        missing.append("no encryption (`tls`)")
    if missing:
        _LOG.warning(
            "Listening on %s: whoever can reach this machine can use the "
            "model. There is %s.",
            settings.host,
            " and ".join(missing),
        )
