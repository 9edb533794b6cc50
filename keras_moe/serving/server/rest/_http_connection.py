"""One HTTP/1.1 connection: h11 over a socket, with a limit on every wait."""

import contextlib
import email.utils
import http
import json
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import h11

JSON = "application/json"
# A client may keep an idle connection for so long. From its first byte on, a
# request must have come within the other two: its head, and all of it.
_IDLE_SECONDS = 60.0
_HEAD_SECONDS = 10.0
_REQUEST_SECONDS = 60.0
_ANSWER_SECONDS = 60.0
_LINGER_SECONDS = 2.0
_MAX_HEAD_BYTES = 1 << 16
_CHUNK = 1 << 16
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class HttpAnswer(NamedTuple):
    """What is sent back.

    Attributes:
        status: the HTTP status.
        body: its bytes.
        content_type: of the body.
        headers: further ones, name and value.
        closes: whether the connection ends with it: bytes that were not read
            would be taken for the next request.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False


class HttpRequest(NamedTuple):
    """The head of a request.

    Attributes:
        method: such as `"POST"`.
        target: the path, and what follows it.
        headers: lower-case name to value, the last one where it is repeated.
        is_crowded: whether there are more connections than the server likes
            to have; only what is cheap should be answered.
        read_body: reads the body. Raises `ConnectionError` where it ends too
            early and `TimeoutError` where it takes too long.
    """

    method: str
    target: str
    headers: dict[str, str]
    is_crowded: bool
    read_body: Callable[[], bytes]


class HttpConnection:
    """A connection whose requests are answered one after the other.

    h11 reads the heads: what it takes for one, no proxy reads otherwise. Bodies
    have a Content-Length here or none at all, and answers are our own: for both
    h11 would take longer than for the head.

    Args:
        stream: the accepted socket, or TLS over it.
        is_crowded: whether it is beyond the connections that the server likes
            to have: it may send one request.

    Attributes:
        waiting_since: since when the server waits for the client, in seconds
            of the monotonic clock; `None` while a request is answered.
    """

    def __init__(self, stream: socket.socket, is_crowded: bool = False):
        self._stream = stream
        self._is_crowded = is_crowded
        self._timeout: float | None = None
        # Received, and not yet read: the next request may be there already.
        self._data = b""
        self.waiting_since: float | None = time.monotonic()

    def serve(self, answer: Callable[[HttpRequest], HttpAnswer]) -> None:
        """Answers requests until the client or an error ends the connection.

        Args:
            answer: answers a request.

        Raises:
            OSError: the client broke off, or waited too long.
        """
        while self._begins():
            # Where the next request begins is unknown unless the body of this
            # one was read.
            goes_on = False
            is_head = False
            try:
                began = time.monotonic()
                head = self._read_head(began + _HEAD_SECONDS)
                is_head = head.method == b"HEAD"
                request = self._request(head, began + _REQUEST_SECONDS)
                reply = answer(request)
                goes_on = self.waiting_since is None and not (
                    reply.closes or self._is_crowded or _ends(head, request)
                )
            except h11.RemoteProtocolError as error:
                reply = refusal(error.error_status_hint, f"Not HTTP: {error}")
            except TimeoutError:
                reply = refusal(408, "The request took too long to come.")
            self._send(reply, goes_on, is_head)
            if not goes_on:
                self._linger()
                return

    def abort(self) -> None:
        """Ends the connection from another thread."""
        with contextlib.suppress(OSError):
            # `SSLSocket.shutdown` would let the thread that answers go on
            # without encryption.
            socket.socket.shutdown(self._stream, socket.SHUT_RDWR)

    def _begins(self) -> bool:
        """Waits for the first bytes of a request; tells whether there are."""
        with contextlib.suppress(TimeoutError):
            self._data = self._data or self._receive(
                time.monotonic() + _IDLE_SECONDS
            )
        return bool(self._data)

    def _read_head(self, deadline: float) -> h11.Request:
        parser = h11.Connection(
            h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES
        )
        parser.receive_data(self._data)
        while (event := parser.next_event()) is h11.NEED_DATA:
            parser.receive_data(self._receive(deadline))
        if not isinstance(event, h11.Request):
            raise ConnectionError("The client closed before a request.")
        self._data = parser.trailing_data[0]
        return event

    def _request(self, head: h11.Request, deadline: float) -> HttpRequest:
        headers = {
            name.decode(): value.decode("latin-1")
            for name, value in head.headers
        }
        length = int(headers.get("content-length", "0"))

        def read_body() -> bytes:
            expected = headers.get("expect", "").lower()
            if expected == "100-continue" and not self._data:
                self._stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            return self._read_body(length, deadline)

        return HttpRequest(
            head.method.decode(),
            head.target.decode(),
            headers,
            self._is_crowded,
            read_body,
        )

    def _read_body(self, length: int, deadline: float) -> bytes:
        parts, missing = [self._data], length - len(self._data)
        while missing > 0:
            parts.append(self._receive(deadline))
            if not parts[-1]:
                raise ConnectionError("The client closed in a body.")
            missing -= len(parts[-1])
        data = b"".join(parts)
        self._data = data[length:]
        self.waiting_since = None
        return data[:length] if self._data else data

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._limit_wait(left)
        return self._stream.recv(_CHUNK)

    def _limit_wait(self, seconds: float) -> None:
        # Setting it is a system call, and most requests come in one piece: a
        # second more or less does no harm.
        if self._timeout is None or abs(seconds - self._timeout) > 1.0:
            self._timeout = seconds
            self._stream.settimeout(seconds)

    def _send(self, reply: HttpAnswer, goes_on: bool, is_head: bool) -> None:
        # A client that does not read its answer is waited for, too.
        self.waiting_since = time.monotonic()
        lines = [
            f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}",
            f"Date: {email.utils.formatdate(usegmt=True)}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            *(f"{name}: {value}" for name, value in reply.headers),
            *([] if goes_on else ["Connection: close"]),
            "\r\n",
        ]
        data = "\r\n".join(lines).encode("latin-1")
        self._limit_wait(_ANSWER_SECONDS)
        self._stream.sendall(data if is_head else data + reply.body)

    def _linger(self) -> None:
        """Throws away bytes that are still arriving, for a while.

        Closing at once would reset the connection, and a client in the
        middle of sending would never see the answer.
        """
        deadline = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)
            self._stream.settimeout(_LINGER_SECONDS)
            while self._stream.recv(_CHUNK) and time.monotonic() < deadline:
                pass


def _ends(head: h11.Request, request: HttpRequest) -> bool:
    """Tells whether a client wants no more than this request."""
    wanted = request.headers.get("connection", "").lower()
    return head.http_version < b"1.1" or "close" in wanted


def refusal(status: int, message: str, *headers: tuple[str, str]) -> HttpAnswer:
    """Makes the answer to what was not even read."""
    body = json.dumps({"error": message}).encode()
    return HttpAnswer(status, body, headers=headers, closes=True)
