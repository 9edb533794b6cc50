"""The HTTP server itself, before an application of the test's own."""

import asyncio
import contextlib
import logging
import socket
import struct
import threading
import time

import pytest
from starlette.requests import Request
from starlette.responses import Response

from keras_moe.serving.server.rest import _http_connection
from keras_moe.serving.server.rest import _http_server
from keras_moe.serving.server.rest._lingering_transport import (
    LingeringTransport,
)

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 20 << 20


class App:
    """Answers `/echo`, `/large`, `/refuse` and, when it is let, `/wait`."""

    def __init__(self):
        self.asked = 0
        self.may_answer = threading.Event()

    async def __call__(self, scope, receive, send):
        with contextlib.suppress(asyncio.CancelledError):
            await self.answer(scope, receive, send)

    async def answer(self, scope, receive, send):
        self.asked += 1
        response = Response(b"ok")
        path = scope["path"]
        if path == "/refuse":
            response = Response(b"no", 413, {"Connection": "close"})
        else:
            body = await Request(scope, receive).body()
            if path == "/echo":
                response = Response(body)
            elif path == "/large":
                response = Response(b"x" * LARGE)
            elif path == "/wait":
                while not self.may_answer.is_set():
                    await asyncio.sleep(0.01)
        await response(scope, receive, send)


class Running:
    def __init__(self, loop):
        self.app = App()
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self.server = _http_server.HttpServer(self.app, listener)
        self.server.config.loop = loop
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def connect(self, data=b""):
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        peer.sendall(data)
        return peer

    def stop(self, grace=0.0):
        self.server.exit_soon(grace)
        self.thread.join(10)
        assert not self.thread.is_alive()


# Without uvloop, which Windows has not, asyncio's own loop is taken.
@pytest.fixture(params=["auto", "asyncio"])
def running(request):
    running = Running(request.param)
    yield running
    running.app.may_answer.set()
    running.stop()


def read_all(peer):
    parts = []
    while part := peer.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


class TestStop:
    def test_answers_under_way_are_finished(self, running, eventually, caplog):
        caplog.set_level(logging.INFO)
        idle = running.connect(GET % b"/echo")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        asking = running.connect(GET % b"/wait")
        eventually(lambda: running.app.asked == 2)
        stopping = threading.Thread(target=running.stop, args=[10.0])
        stopping.start()
        assert idle.recv(1000) == b""
        running.app.may_answer.set()
        answer = read_all(asking)
        stopping.join()

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in answer
        # uvicorn would say hello, and that it waits.
        assert [record.getMessage() for record in caplog.records] == []

    def test_nobody_waits_for_longer_than_the_grace(
        self, running, eventually, caplog
    ):
        peer = running.connect(GET % b"/wait")
        eventually(lambda: running.app.asked == 1)
        began = time.monotonic()
        running.stop(0.1)
        assert time.monotonic() - began < 5
        with contextlib.suppress(ConnectionError):
            assert peer.recv(1000) == b""
        assert [record.getMessage() for record in caplog.records] == []


class TestOrder:
    def test_answers_come_before_a_refusal(self, running):
        """Garbage after a good request does not overtake its answer."""
        peer = running.connect(GET % b"/echo" + b"garbage\r\n\r\n")
        answers = read_all(peer).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"200", b"400"]

    def test_requests_are_not_collected_without_end(self, running):
        count = 10 * _http_connection._MAX_AHEAD
        answers = read_all(running.connect(count * (GET % b"/echo")))
        answers = answers.split(b"HTTP/1.1 ")[1:]
        assert {answer[:3] for answer in answers[:-1]} == {b"200"}
        assert answers[-1].startswith(b"400")
        assert len(answers) <= _http_connection._MAX_AHEAD + 2

    def test_a_client_that_sends_no_more_gets_its_answer(
        self, running, eventually
    ):
        peer = running.connect(GET % b"/wait")
        eventually(lambda: running.app.asked == 1)
        peer.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
        running.app.may_answer.set()
        assert read_all(peer).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("pieces", [1, 3])
def test_another_protocol_is_not_spoken(running, pieces):
    """Java's client offers HTTP/2 with each request, and has a body."""
    body = b"body that is no request: " + GET % b"/echo"
    data = (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
    size = -(-len(data) // pieces)
    peer = running.connect()
    for start in range(0, len(data), size):
        peer.sendall(data[start : start + size])
        time.sleep(0.02)
    answer = read_all(peer)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n" + body)
    assert running.app.asked == 1


def test_a_refusal_reaches_a_client_that_is_still_sending(running):
    """Closing at once would reset the connection under the answer."""
    size = 4 << 20
    head = b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    peer = running.connect(head % size)
    for _ in range(size >> 16):
        peer.sendall(b"x" * (1 << 16))
    assert read_all(peer).startswith(b"HTTP/1.1 413 ")


class TestWaits:
    def test_an_idle_connection_is_closed(self, running, monkeypatch):
        monkeypatch.setattr(_http_connection, "_IDLE_SECONDS", 0.2)
        peer = running.connect(GET % b"/echo")
        silent = running.connect()
        assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")
        for each in (peer, silent):
            with contextlib.suppress(ConnectionError):
                assert each.recv(1000) == b""

    def test_an_answer_must_be_read(self, running, monkeypatch, eventually):
        monkeypatch.setattr(_http_connection, "_ANSWER_SECONDS", 0.3)
        peer = running.connect(2 * (GET % b"/large"))
        eventually(lambda: running.app.asked == 2)
        eventually(lambda: not running.server.server_state.connections)
        with contextlib.suppress(ConnectionError):
            assert len(read_all(peer)) < 2 * LARGE

    def test_clients_that_leave_do_not_pile_up_work(
        self, running, monkeypatch, caplog, eventually
    ):
        monkeypatch.setattr(_http_server, "_MAX_CONNECTIONS", 2)
        monkeypatch.setattr(_http_server, "_ROOM_KEPT", 1)
        for count in range(1, 4):
            peer = running.connect(GET % b"/wait")
            eventually(lambda count=count: running.app.asked == count)
            # A reset, where `close` would only say that no more is sent.
            reset = struct.pack("ii", 1, 0)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            peer.close()
        eventually(lambda: not running.server.server_state.connections)
        with contextlib.suppress(ConnectionError):
            assert running.connect(GET % b"/echo").recv(1000) == b""
        assert running.app.asked == 3
        assert "Refused a connection: 3 are open" in caplog.text
        running.app.may_answer.set()
        eventually(lambda: not running.server.server_state.tasks)
        peer = running.connect(GET % b"/echo")
        assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_has_gone_is_no_error():
    """Its socket cannot even be told that there is no more."""

    class Gone:
        aborted = False

        def __getattr__(self, name):
            return lambda *_: name == "can_write_eof"

        def write_eof(self):
            raise OSError("Transport endpoint is not connected")

        def abort(self):
            self.aborted = True

    async def close():
        gone = Gone()
        LingeringTransport(gone).close()
        return gone.aborted

    assert asyncio.run(close())
