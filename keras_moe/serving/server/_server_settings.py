"""What a model server is told when it is made."""

import contextlib
import dataclasses
import ipaddress
import math
import numbers
import os
from typing import Any

from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._request_log import RequestLog
from keras_moe.serving.server._tls import Tls
from keras_moe.serving.versions._version_folders import is_remote
from keras_moe.validation import check_size

_MAX_PORT = 65535
# With batching most requests that run only wait to be joined, so there must be
# more of them.
_WORKERS, _BATCHING_WORKERS = 4, 32


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """The arguments of `Server`, which explains each; checked when made.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> from keras_moe.serving.server._server_settings import ServerSettings
    >>> settings = ServerSettings("model", "serving/model", max_batch_rows=16)
    >>> settings.host, settings.workers
    ('127.0.0.1', 32)
    """

    model_name: str
    model_base_path: str | os.PathLike
    host: str = "127.0.0.1"
    grpc_port: int | None = 0
    rest_port: int | None = 0
    poll_seconds: float = 1.0
    max_request_bytes: int = 64 << 20
    max_request_rows: int = 4096
    max_workers: int | None = None
    intra_op_threads: int = 1
    num_versions: int = 2
    max_batch_rows: int | None = None
    tls: Tls | None = None
    # A message or a log that shows the settings must not show the secret.
    token: str | None = dataclasses.field(default=None, repr=False)
    requests_per_second: float | None = None
    burst: int | None = None
    request_log: RequestLog | None = None

    def __post_init__(self):
        self._check_names()
        self._check_ports()
        check_size(
            max_request_bytes=self.max_request_bytes,
            max_request_rows=self.max_request_rows,
            max_workers=self.max_workers,
            intra_op_threads=self.intra_op_threads,
            num_versions=self.num_versions,
            max_batch_rows=self.max_batch_rows,
        )
        if not _is_number(self.poll_seconds) or not (
            # Nothing waits for an infinite time: the watcher would end.
            0 < self.poll_seconds < math.inf
        ):
            raise ValueError(
                "`poll_seconds` must be positive and finite. "
                f"Received: poll_seconds={self.poll_seconds!r}"
            )
        for name, kind in (("tls", Tls), ("request_log", RequestLog)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ValueError(
                    f"`{name}` must be a `keras_moe.serving.{kind.__name__}`. "
                    f"Received: {name}={value!r}"
                )
        self.gate()  # checks `token`, `requests_per_second` and `burst`

    @property
    def workers(self) -> int:
        """How many requests run at the same time, of both APIs together."""
        if self.max_workers is not None:
            return self.max_workers
        return _WORKERS if self.max_batch_rows is None else _BATCHING_WORKERS

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside this machine can reach `host`."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"

    def gate(self) -> Gate:
        """Makes what decides who may ask, and how often."""
        return Gate(self.token, self.requests_per_second, self.burst)

    def _check_names(self) -> None:
        name, base = self.model_name, self.model_base_path
        if not isinstance(name, str) or not name or set(name) & set("/:"):
            raise ValueError(
                "`model_name` must be a name without '/' and ':'. "
                f"Received: model_name={name!r}"
            )
        if not isinstance(base, str | os.PathLike) or is_remote(base):
            raise ValueError(
                "`model_base_path` must be a folder of this machine. "
                f"Received: model_base_path={base!r}"
            )
        if not isinstance(self.host, str) or not self.host:
            # An empty host means every interface to the socket library.
            raise ValueError(
                "`host` must be given as an address; say '0.0.0.0' to listen "
                f"on every interface. Received: host={self.host!r}"
            )

    def _check_ports(self) -> None:
        ports = {"grpc_port": self.grpc_port, "rest_port": self.rest_port}
        if set(ports.values()) == {None}:
            raise ValueError(
                "One of `grpc_port` and `rest_port` must be a port. "
                "Received: grpc_port=None, rest_port=None"
            )
        for name, port in ports.items():
            if port is not None and not (
                isinstance(port, numbers.Integral)
                and not isinstance(port, bool)
                and 0 <= port <= _MAX_PORT
            ):
                raise ValueError(
                    f"`{name}` must be in [0, {_MAX_PORT}], a whole number. "
                    f"Received: {name}={port!r}"
                )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
