"""One HTTP/1.1 connection: uvicorn's, with refusals and deadlines of ours."""

import asyncio
import contextlib
import http
import json
import logging
import socket
import time
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from keras_moe.serving.server.rest._lingering_transport import (
    LingeringTransport,
)

# A client may keep an idle connection for so long. From its first byte on, a
# request must have come within the other two: its head, and all of it.
_IDLE_SECONDS = 60.0
_HEAD_SECONDS = 10.0
_REQUEST_SECONDS = 60.0
# A client must have read within this time what was sent to it.
_ANSWER_SECONDS = 60.0
_MAX_HEAD_BYTES = 1 << 16
# Requests that a client may send before it has read the first answer.
_MAX_AHEAD = 100
_LOG = logging.getLogger(__name__)


class HttpConnection(HttpToolsProtocol):
    """A connection whose requests are answered one after the other.

    httptools reads the heads, and refuses what another reader could take for
    something else; what it lets pass of that kind is refused here. The
    application is told of `is_crowded` by the state of its scope.

    Args:
        config: uvicorn's.
        server_state: uvicorn's, of the server.
        peer: the accepted socket.
        is_crowded: whether it is beyond the connections that the server likes
            to have: it may send one request.

    Attributes:
        waiting_since: since when the server waits for the client, in seconds
            of the monotonic clock; `None` while a request is answered.
    """

    transport: Any  # a LingeringTransport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        peer: socket.socket,
        is_crowded: bool,
    ):
        super().__init__(
            config,
            server_state,
            {"is_crowded": is_crowded},
            asyncio.get_running_loop(),
        )
        # The application answers in words whatever a client does.
        self.logger, self.access_log = _LOG, False
        # A Transfer-Encoding gets its own refusal, whatever comes with it.
        self.parser.set_dangerous_leniencies(
            lenient_data_after_close=True,
            lenient_chunked_length=True,
            lenient_transfer_encoding=True,
        )
        self._peer = peer
        self._is_crowded = is_crowded
        self.waiting_since: float | None = time.monotonic()
        self._began = self.waiting_since
        self._unread_since: float | None = None
        self._is_in_message = self._is_in_head = False
        self._answers_due = 0
        self._received = self._body_left = 0
        self._refusal: _Refusal | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way, to its last byte."""
        return self.waiting_since is None or (
            self.transport is not None
            and self.transport.get_write_buffer_size() > 0
        )

    def expire(self, now: float) -> None:
        """Ends the connection, or the request, if it took too long.

        Args:
            now: in seconds of the monotonic clock.
        """
        if self._unread_since is not None:
            if now > self._unread_since + _ANSWER_SECONDS:
                self.abort()
        elif self.waiting_since is None or self.transport.is_closing():
            return
        elif not self._is_in_message:
            if now > self.waiting_since + _IDLE_SECONDS:
                self.abort()
        elif now > self._began + (
            _HEAD_SECONDS if self._is_in_head else _REQUEST_SECONDS
        ):
            self._refusal = _Refusal(408, "The request took too long to come.")
            self._send_refusal(self._refusal)

    def abort(self) -> None:
        """Ends the connection at once."""
        if self.transport is None:  # TLS still shakes hands
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        # An answer under way is finished; whoever is idle is let go.
        if self.waiting_since is None:
            super().shutdown()
        else:
            self.abort()

    def connection_made(self, transport: Any) -> None:
        lingering: Any = LingeringTransport(transport)
        super().connection_made(lingering)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self.transport.is_closing():
            return  # what comes after the last answer
        self._unset_keepalive_if_required()
        if not (self._is_in_message or self._answers_due):
            self._began = time.monotonic()
        try:
            if self._body_left:
                self._take_body(data)
            else:
                self._parse(data)
        except httptools.HttpParserUpgrade as error:
            # The new protocol is not spoken here: the request is answered as
            # if it had not been asked for.
            self._take_body(data[error.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, _Refusal):
                cause = _Refusal(400, f"Not HTTP: {error}")
            self._refuse(cause)
        except _Refusal as refusal:
            self._refuse(refusal)

    def eof_received(self) -> Any:  # a bool, as asyncio has it
        # A client may say that it sends no more, and still wants its answers.
        is_owed = self._answers_due > 0 and not self._is_in_message
        if not is_owed or self.scheme == "https":  # TLS ends both ways
            return False
        self.cycle.keep_alive = self.transport.lingers = False
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = self.waiting_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = None
        if self._answers_due:
            self.waiting_since = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_message = self._is_in_head = True
        self.transport.lingers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self._check_head()
        is_of_server = self.url == b"*"  # as OPTIONS may ask
        if is_of_server:
            self.url = b"/"  # httptools parses no other
        super().on_headers_complete()
        if is_of_server:
            self.scope["path"], self.scope["raw_path"] = "*", b"*"
        self._is_in_head = False
        if self._is_crowded:
            self.cycle.keep_alive = False
        if self.parser.should_upgrade():
            # The parser takes what follows for the new protocol.
            self.cycle.keep_alive = False
            self._body_left = int(dict(self.headers).get(b"content-length", 0))

    def on_message_complete(self) -> None:
        if self._body_left:
            return
        super().on_message_complete()
        self._is_in_message = False
        self._answers_due += 1
        self.waiting_since = None
        if self.scheme == "https":
            self.transport.lingers = False

    def on_response_complete(self) -> None:
        # An early refusal is no answer to a whole request.
        self._answers_due = max(0, self._answers_due - 1)
        super().on_response_complete()
        if not self._answers_due:
            self.waiting_since = self._began = time.monotonic()
            if self._refusal is not None and not self.transport.is_closing():
                self._send_refusal(self._refusal)

    def _parse(self, data: bytes) -> None:
        had_begun = self._is_in_head
        self._received = len(data) + (self._received if had_begun else 0)
        self.parser.feed_data(data)
        if not self._is_in_head:
            return
        if not had_begun:
            self._received = 0  # some of it belongs to earlier requests
        elif self._received > _MAX_HEAD_BYTES:
            raise _Refusal(431, "The head is too large.")

    def _take_body(self, data: bytes) -> None:
        """Takes what follows a head that asks for another protocol."""
        part = data[: self._body_left]
        if part:
            self._body_left -= len(part)
            self.on_body(part)
            if not self._body_left:
                self.on_message_complete()

    def _check_head(self) -> None:
        names = [name for name, _ in self.headers]
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise _Refusal(505, "The version must be HTTP/1.1.")
        hosts = names.count(b"host")
        if hosts > 1 or not hosts and version == "1.1":
            raise _Refusal(400, "There must be one Host header.")
        if b"transfer-encoding" in names:
            encodings = [
                value.lower()
                for name, value in self.headers
                if name == b"transfer-encoding"
            ]
            if encodings != [b"chunked"]:
                raise _Refusal(501, "The Transfer-Encoding is not known.")
        if self.parser.get_method() == b"CONNECT":
            raise _Refusal(501, "This is no proxy.")
        if self._received > _MAX_HEAD_BYTES and (
            len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers)
            > _MAX_HEAD_BYTES
        ):
            raise _Refusal(431, "The head is too large.")
        if len(self.pipeline) >= _MAX_AHEAD:
            raise _Refusal(
                400, f"At most {_MAX_AHEAD} requests may be sent ahead."
            )

    def _refuse(self, refusal: "_Refusal") -> None:
        self._refusal = refusal
        # The answers that are owed come first.
        if self.cycle is None or self.cycle.response_complete:
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: "_Refusal") -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # The application waits for a body.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.waiting_since = time.monotonic()
        body = json.dumps({"error": str(refusal)}).encode()
        status = http.HTTPStatus(refusal.status)
        lines = [
            f"HTTP/1.1 {status} {status.phrase}".encode(),
            *(
                b"%b: %b" % header
                for header in self.server_state.default_headers
            ),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            body,
        ]
        self.transport.write(b"\r\n".join(lines))
        self.transport.lingers = True
        self.transport.close()


class _Refusal(Exception):
    """The answer to what was not even read."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
