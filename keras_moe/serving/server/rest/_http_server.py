"""Listens for connections: uvicorn's server, with a limit, and room kept."""

import asyncio
import logging
import socket
import ssl
import time
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from keras_moe.serving.server.rest._http_connection import HttpConnection

_LOG = logging.getLogger(__name__)
_HANDSHAKE_SECONDS = 10.0
_GOODBYE_SECONDS = 2.0
_MAX_CONNECTIONS = 128
# Further ones, to be told that there are too many and, where they ask for the
# state of the model or for the metrics, to be answered.
_ROOM_KEPT = 16
# Whom the server has waited for longer makes way for a new connection.
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.1


class HttpServer(uvicorn.Server):
    """An HTTP server with a limit on connections, to be run in a thread.

    Where all connections are taken, a new one takes the place of the one that
    has kept the server waiting for longest: clients that send nothing, or a
    byte at a time, close it to nobody.

    uvicorn would accept without a limit, knows a TLS connection only once it
    has shaken hands, and logs when it starts and stops: both are done here.

    Args:
        app: answers requests.
        listener: the socket that listens; closed at the end.
        tls: the certificate to show; `None` speaks in the clear.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        tls: ssl.SSLContext | None = None,
    ):
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpConnection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                workers=1,
                # The logs and the environment of the process are its own.
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=60,
            )
        )
        self._listener = listener
        self._tls = tls
        self._opening: set[HttpConnection] = set()
        self._grace = 0.0

    def exit_soon(self, grace: float) -> None:
        """Tells the server to stop, from another thread.

        Args:
            grace: seconds in which answers under way may be finished.
        """
        self._grace = grace
        self.should_exit = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.load()
        accepting = asyncio.create_task(self._accept())
        self.started = True
        try:
            await self.main_loop()
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            self._listener.close()
        await self.shutdown()

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.expire(now)
        return await super().on_tick(counter)

    async def shutdown(
        self, sockets: list[socket.socket] | None = None
    ) -> None:
        for connection in [*self._connections, *self._opening]:
            connection.shutdown()
        deadline = time.monotonic() + self._grace
        while time.monotonic() < deadline and any(
            connection.is_busy for connection in self._connections
        ):
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # they are told so

    @property
    def _connections(self) -> set[HttpConnection]:
        connections: set[Any] = self.server_state.connections
        return connections

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task] = set()
        while True:
            try:
                peer, _ = await loop.sock_accept(self._listener)
            except OSError:  # such as too many open files
                _LOG.debug("No connection was accepted", exc_info=True)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            connection = self._admit(peer)
            if connection is None:
                peer.close()
                continue
            task = loop.create_task(self._open(connection, peer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _open(
        self, connection: HttpConnection, peer: socket.socket
    ) -> None:
        seconds = {}
        if self._tls is not None:
            seconds["ssl_handshake_timeout"] = _HANDSHAKE_SECONDS
            seconds["ssl_shutdown_timeout"] = _GOODBYE_SECONDS
        try:
            # With Nagle's algorithm an answer waits 40 ms for an
            # acknowledgement.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, peer, ssl=self._tls, **seconds
            )
        except OSError:  # TLS's errors, too
            _LOG.debug("A client broke off", exc_info=True)
            peer.close()
        finally:
            self._opening.discard(connection)

    def _admit(self, peer: socket.socket) -> HttpConnection | None:
        """Finds a place; `None` where there is not even a kept one."""
        if self._count() >= _MAX_CONNECTIONS:
            self._make_way()
        count = self._count()
        if count >= _MAX_CONNECTIONS + _ROOM_KEPT:
            _LOG.warning("Refused a connection: %d are open", count)
            return None
        connection = HttpConnection(
            self.config, self.server_state, peer, count >= _MAX_CONNECTIONS
        )
        self._opening.add(connection)
        return connection

    def _count(self) -> int:
        # A client that leaves without its answer leaves the work behind.
        work = len(self.server_state.tasks)
        return max(len(self._connections) + len(self._opening), work)

    def _make_way(self) -> None:
        """Ends those that have been waited for, until there is a place."""

        def since(connection: HttpConnection) -> float:
            waiting = connection.waiting_since
            return now if waiting is None else waiting

        now = time.monotonic()
        both = self._connections | self._opening
        for connection in sorted(both, key=since):
            if since(connection) > now - _PATIENCE_SECONDS:
                return
            self._connections.discard(connection)
            self._opening.discard(connection)
            connection.abort()
            if self._count() < _MAX_CONNECTIONS:
                return
