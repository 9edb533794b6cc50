"""Listens for connections: a thread each, with a limit, TLS, and room kept."""

import contextlib
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from keras_moe.serving.server.rest._http_connection import HttpAnswer
from keras_moe.serving.server.rest._http_connection import HttpConnection
from keras_moe.serving.server.rest._http_connection import HttpRequest

_LOG = logging.getLogger(__name__)
_HANDSHAKE_SECONDS = 10.0
_MAX_CONNECTIONS = 128
# Further ones, to be told that there are too many and, where they ask for the
# state of the model or for the metrics, to be answered.
_ROOM_KEPT = 16
# Whom the server has waited for longer makes way for a new connection.
_PATIENCE_SECONDS = 1.0


class HttpServer(socketserver.TCPServer):
    """An HTTP server with a thread a connection, and a limit on both.

    Where all connections are taken, a new one takes the place of the one that
    has kept the server waiting for longest: clients that send nothing, or a
    byte at a time, close it to nobody.

    Args:
        host: address to listen on.
        port: port; 0 takes a free one.
        answer: answers a request.
        tls: the certificate to show; `None` speaks in the clear.

    Raises:
        OSError: the port cannot be listened on.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[HttpRequest], HttpAnswer],
        tls: ssl.SSLContext | None = None,
    ):
        # The base class binds a socket of this family when it is made.
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._answer = answer
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[HttpConnection] = set()
        super().__init__((host, port), socketserver.BaseRequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # With Nagle's algorithm an answer waits 40 ms for an acknowledgement.
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            # The handshake is made in the connection's own thread: in this one
            # a slow client would block all others.
            request = self._tls.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        connection = self._admit(request)
        if connection is None:
            self.shutdown_request(request)
            return
        try:
            threading.Thread(
                target=self._serve,
                args=[request, connection],
                name="rest-connection",
                daemon=True,
            ).start()
        except RuntimeError:  # the machine has no more threads
            self._forget(connection)
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("A client broke off", exc_info=True)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            # An answer under way is finished; whoever is idle is let go.
            if connection.waiting_since is not None:
                connection.abort()

    def _admit(self, request: socket.socket) -> HttpConnection | None:
        """Finds a place; `None` where there is not even a kept one."""
        with self._lock:
            if len(self._open) >= _MAX_CONNECTIONS:
                self._make_way()
            count = len(self._open)
            if count >= _MAX_CONNECTIONS + _ROOM_KEPT:
                _LOG.warning("Refused a connection: %d are open", count)
                return None
            connection = HttpConnection(request, count >= _MAX_CONNECTIONS)
            self._open.add(connection)
        return connection

    def _make_way(self) -> None:
        """Ends those that have been waited for, until there is a place."""

        def since(connection: HttpConnection) -> float:
            waiting = connection.waiting_since
            return now if waiting is None else waiting

        now = time.monotonic()
        for connection in sorted(self._open, key=since):
            if since(connection) > now - _PATIENCE_SECONDS:
                return
            self._open.discard(connection)
            connection.abort()
            if len(self._open) < _MAX_CONNECTIONS:
                return

    def _serve(
        self, request: socket.socket, connection: HttpConnection
    ) -> None:
        try:
            if isinstance(request, ssl.SSLSocket):
                request.settimeout(_HANDSHAKE_SECONDS)
                request.do_handshake()
            connection.serve(self._answer)
        except OSError:  # TLS's errors, too
            self.handle_error(request, None)
        finally:
            self._forget(connection)
            with contextlib.suppress(OSError):
                self.shutdown_request(request)

    def _forget(self, connection: HttpConnection) -> None:
        with self._lock:
            self._open.discard(connection)
