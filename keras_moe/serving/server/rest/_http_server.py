"""The standard library's HTTP server, with limits and TLS."""

import http.server
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from typing import Any

_LOG = logging.getLogger(__name__)
_HANDSHAKE_SECONDS = 10.0
_MAX_CONNECTIONS = 128


class HttpServer(http.server.ThreadingHTTPServer):
    """An HTTP server with a thread a connection, and a limit on both.

    Args:
        host: address to listen on.
        port: port; 0 takes a free one.
        handler: makes what answers the requests of a connection.
        tls: the certificate to show; `None` speaks in the clear.

    Raises:
        OSError: the port cannot be listened on.
    """

    daemon_threads = True
    # A server that blocks would wait for connections that clients keep alive.
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        host: str,
        port: int,
        handler: Callable[..., http.server.BaseHTTPRequestHandler],
        tls: ssl.SSLContext | None = None,
    ):
        # The base class binds a socket of this family when it is made.
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._tls = tls
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        # `HTTPServer.server_bind` would also ask the name service for this
        # machine's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            _LOG.warning("Refused a connection: %d are open", _MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            # The handshake is made in the connection's own thread: in the one
            # that accepts connections, a slow client would block all others.
            super().process_request_thread(
                self._encrypt(request), client_address
            )
        except (OSError, ssl.SSLError):
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        finally:
            self._slots.release()

    def _encrypt(self, request: socket.socket) -> socket.socket:
        if self._tls is None:
            return request
        request.settimeout(_HANDSHAKE_SECONDS)
        return self._tls.wrap_socket(request, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("A client broke off", exc_info=True)
