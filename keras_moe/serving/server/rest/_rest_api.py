"""TensorFlow Serving's REST API: the listening half."""

import threading

from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server._server_settings import ServerSettings
from keras_moe.serving.server.rest._http_server import HttpServer
from keras_moe.serving.server.rest._rest_handler import RestHandler


class RestApi:
    """Listens for REST requests, a thread a connection.

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
        handler = RestHandler(
            api,
            metrics,
            gate,
            settings.max_request_bytes,
            settings.max_request_rows,
        )
        host, port = settings.host, settings.rest_port or 0
        try:
            self._server = HttpServer(
                host,
                port,
                handler.answer,
                settings.tls.context if settings.tls else None,
            )
        except OSError as error:
            raise OSError(
                "`rest_port` must be a port that can be listened on. "
                f"Received: host={host!r}, rest_port={port}: {error}"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="rest-api",
            daemon=True,
        )

    def start(self) -> None:
        """Starts to listen, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops listening."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
