"""TensorFlow Serving's REST API: the listening half."""

import socket
import threading

from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server._server_settings import ServerSettings
from keras_moe.serving.server.rest._http_server import HttpServer
from keras_moe.serving.server.rest._rest_app import RestApp

_BACKLOG = 128


class RestApi:
    """Listens for REST requests: one thread for all connections.

    Args:
        settings: the address, the limits and the certificate.
        api: answers what is asked.
        metrics: counts the requests, and is exposed.
        gate: says who may ask.

    Attributes:
        port: the port that is listened on.

    Raises:
        OSError: it cannot be listened on.
    """

    def __init__(
        self,
        settings: ServerSettings,
        api: ModelApi,
        metrics: ServerMetrics,
        gate: Gate,
    ):
        host, port = settings.host, settings.rest_port or 0
        try:
            self._socket = _listen(host, port)
        except OSError as error:
            raise OSError(
                "`rest_port` must be a port that can be listened on. "
                f"Received: host={host!r}, rest_port={port}: {error}"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._app = RestApp(
            api,
            metrics,
            gate,
            settings.max_request_bytes,
            settings.max_request_rows,
        )
        self._server = HttpServer(
            self._app,
            self._socket,
            settings.tls.context if settings.tls else None,
        )
        self._thread = threading.Thread(
            target=self._server.run, name="rest-api", daemon=True
        )

    def start(self) -> None:
        """Starts to listen, in a thread."""
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Stops, letting requests under way finish for `grace` seconds."""
        if self._thread.ident is not None:
            self._server.exit_soon(grace)
            self._thread.join()
        self._socket.close()
        self._app.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
