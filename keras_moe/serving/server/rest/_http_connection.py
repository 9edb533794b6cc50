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
        self._protocol = h11.Connection(
            h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES
        )
        self._timeout: float | None = None
        self._is_head = False
        self.waiting_since: float | None = time.monotonic()

    def serve(self, answer: Callable[[HttpRequest], HttpAnswer]) -> None:
        """Answers requests until the client or an error ends the connection.

        Args:
            answer: answers a request.

        Raises:
            OSError: the client broke off, or waited too long.
        """
        while self._begins():
            try:
                reply = self._answer_one(answer)
            except h11.RemoteProtocolError as error:
                reply = refusal(error.error_status_hint, f"Not HTTP: {error}")
            except TimeoutError:
                reply = refusal(408, "The request took too long to come.")
            if reply is None or not self._send(reply):
                return
            self._protocol.start_next_cycle()

    def abort(self) -> None:
        """Ends the connection from another thread."""
        with contextlib.suppress(OSError):
            # `SSLSocket.shutdown` would let the thread that answers go on
            # without encryption.
            socket.socket.shutdown(self._stream, socket.SHUT_RDWR)

    def _begins(self) -> bool:
        """Waits for the first bytes of a request; tells whether there are."""
        if self._protocol.trailing_data[0]:  # came along with the last one
            return True
        with contextlib.suppress(TimeoutError):
            return self._receive(time.monotonic() + _IDLE_SECONDS)
        return False

    def _answer_one(
        self, answer: Callable[[HttpRequest], HttpAnswer]
    ) -> HttpAnswer | None:
        began = time.monotonic()
        head = self._next_event(began + _HEAD_SECONDS)
        if not isinstance(head, h11.Request):
            return None  # closed before it had sent anything
        self._is_head = head.method == b"HEAD"
        request = HttpRequest(
            head.method.decode(),
            head.target.decode(),
            {
                name.decode(): value.decode("latin-1")
                for name, value in head.headers
            },
            self._is_crowded,
            lambda: self._read_body(began + _REQUEST_SECONDS),
        )
        return answer(request)

    def _read_body(self, deadline: float) -> bytes:
        if self._protocol.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        parts: list[bytes] = []
        while True:
            try:
                event = self._next_event(deadline)
            except h11.RemoteProtocolError as error:
                raise ConnectionError(str(error)) from error
            if isinstance(event, h11.EndOfMessage):
                self.waiting_since = None
                return b"".join(parts)
            if isinstance(event, h11.Data):
                parts.append(bytes(event.data))

    def _next_event(self, deadline: float) -> h11.Event | type:
        while True:
            event = self._protocol.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._receive(deadline)

    def _receive(self, deadline: float) -> bool:
        """Reads what is there; tells whether the client is."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._limit_wait(left)
        data = self._stream.recv(_CHUNK)
        self._protocol.receive_data(data)
        return bool(data)

    def _limit_wait(self, seconds: float) -> None:
        # Setting it is a system call, and most requests come in one piece: a
        # second more or less does no harm.
        if self._timeout is None or abs(seconds - self._timeout) > 1.0:
            self._timeout = seconds
            self._stream.settimeout(seconds)

    def _send(self, reply: HttpAnswer) -> bool:
        """Sends an answer; tells whether the connection goes on."""
        # A client that does not read its answer is waited for, too.
        self.waiting_since = time.monotonic()
        closes = (
            reply.closes
            or self._is_crowded
            or self._protocol.their_state is not h11.DONE
        )
        self._limit_wait(_ANSWER_SECONDS)
        self._write(
            h11.Response(
                status_code=reply.status,
                headers=[
                    ("Date", email.utils.formatdate(usegmt=True)),
                    ("Content-Type", reply.content_type),
                    ("Content-Length", str(len(reply.body))),
                    *reply.headers,
                    *([("Connection", "close")] if closes else []),
                ],
                reason=_REASONS.get(reply.status, ""),
            ),
            reply.body,
        )
        goes_on = self._protocol.our_state is h11.DONE
        if not goes_on:
            self._linger()
        return goes_on

    def _write(self, head: h11.Event, body: bytes | None = None) -> None:
        data = self._protocol.send(head) or b""
        if body is not None:
            if not self._is_head:
                data += self._protocol.send(h11.Data(data=body)) or b""
            data += self._protocol.send(h11.EndOfMessage()) or b""
        self._stream.sendall(data)

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


def refusal(status: int, message: str, *headers: tuple[str, str]) -> HttpAnswer:
    """Makes the answer to what was not even read."""
    body = json.dumps({"error": message}).encode()
    return HttpAnswer(status, body, headers=headers, closes=True)
