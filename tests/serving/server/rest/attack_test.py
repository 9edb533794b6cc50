"""REST under attack: broken framing, slow clients, bodies that cost."""

import contextlib
import gc
import json
import logging
import socket
import time

import pytest

from keras_moe import serving
from keras_moe.serving.server.rest import _http_connection
from keras_moe.serving.server.rest import _http_server
from keras_moe.serving.server.rest import _json_codec
from tests.serving import toy_model

PREDICT = "/v1/models/toy:predict"
STATUS = b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n"
METRICS = b"GET /monitoring/prometheus/metrics HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"instances": ["ab"]}'
HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
WHOLE = HEAD + LENGTH + b"\r\n" + BODY


@contextlib.contextmanager
def connect(server):
    address = "127.0.0.1", server.rest_port
    with socket.create_connection(address, timeout=20) as peer:
        yield peer


def read_all(peer):
    """Everything until the server closes."""
    parts = []
    while part := peer.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def ask(server, data):
    """The status of the answer to the first request, and all of the bytes."""
    with connect(server) as peer:
        peer.sendall(data)
        answer = peer.recv(1 << 16)
    return int(answer.split()[1]), answer


def header(answer, name):
    """The value of a header, whose name is written in any case."""
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    (value,) = (
        line.partition(":")[2].strip()
        for line in lines
        if line.lower().startswith(f"{name}:")
    )
    return value


class TestFraming:
    @pytest.mark.parametrize(
        "headers",
        [
            LENGTH + b"Content-Length: 3\r\n",
            b"Content-Length: 3\r\n" + LENGTH,
            b"Content-Length: 21, 3\r\n",
            b"Content-Length: +21\r\n",
            b"Content-Length: 0x15\r\n",
            b"Content-Length: 2_1\r\n",
            b"Content-Length: \xb2\xb9\r\n",
            b"Content-Length : 21\r\n",
            b"this line is broken\r\n" + LENGTH,
            b": no name\r\n" + LENGTH,
            b"X: a\x00b\r\n" + LENGTH,
            b"X: a\rContent-Length: 3\r\n" + LENGTH,
            LENGTH + b"Transfer-Encoding\x0b: chunked\r\n",
            LENGTH + b"\x0bTransfer-Encoding: chunked\r\n",
            LENGTH + b"Transfer-Encoding : chunked\r\n",
            LENGTH + b"Host: other\r\n",
            b"X: a\r\n Content-Length: 3\r\n" + LENGTH,
            b"Content-Length:\r\n 21\r\n",
            b"X: a\nContent-Length: 3\r\n" + LENGTH,
            LENGTH + LENGTH,
            b"Content-Length: " + b"9" * 30 + b"\r\n",
        ],
    )
    def test_ambiguous_heads_are_refused(self, server, headers):
        """What a proxy may read otherwise ends the connection with a 400."""
        smuggled = b"GET /v1/models/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        with connect(server) as peer:
            peer.sendall(HEAD + headers + b"\r\n" + BODY + smuggled)
            answer = read_all(peer)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert header(answer, "connection") == "close"
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            (b"Transfer-Encoding: chunked\r\n", 411),
            (LENGTH + b"Transfer-Encoding: chunked\r\n", 411),
            (LENGTH + b"Transfer-Encoding: xchunked\r\n", 501),
            (b"X: " + b"y" * 200_000 + b"\r\n" + LENGTH, 431),
            (b"X: y\r\n" * 50_000 + LENGTH, 431),
        ],
    )
    def test_heads_that_are_not_served(self, server, headers, status):
        with connect(server) as peer:
            peer.sendall(HEAD + headers + b"\r\n")
            answer = read_all(peer)

        assert answer.startswith(b"HTTP/1.1 %d " % status)

    @pytest.mark.parametrize(
        ("first", "status"),
        [
            (b"GET /v1/models/toy HTTP/1.1\r\n", 400),  # without a Host
            (b"GET / HTTP/2.0\r\nHost: x\r\n", 505),
            (b"GET /\r\n", 505),
            (b"GET /\xff HTTP/1.1\r\nHost: x\r\n", 400),
            (b"CONNECT y:80 HTTP/1.1\r\nHost: y\r\n", 501),
            (b"\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\n", 200),
            (b"GET /v1/models/toy HTTP/1.0\r\n", 200),
            (b"GET /v1/models/to%79 HTTP/1.1\r\nHost: x\r\n", 200),
            # An escaped slash, or colon, is a part of the name.
            (b"GET /v1/models%2Ftoy HTTP/1.1\r\nHost: x\r\n", 400),
        ],
    )
    def test_first_lines(self, server, first, status):
        assert ask(server, first + b"\r\n")[0] == status

    def test_requests_that_come_together(self, server):
        """Two in one piece get two answers, in order."""
        last = WHOLE.replace(b"Host", b"Connection: close\r\nHost")
        with connect(server) as peer:
            peer.sendall(STATUS + WHOLE + last)
            answer = read_all(peer)

        assert answer.count(b"HTTP/1.1 200 ") == 3
        assert answer.index(b"AVAILABLE") < answer.index(b"predictions")

    def test_continue_is_given_or_the_refusal(self, server):
        expects = b"Expect: 100-continue\r\n"
        with connect(server) as peer:
            peer.sendall(HEAD + expects + LENGTH + b"\r\n")
            assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
            peer.sendall(BODY)
            assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")
        with connect(server) as peer:
            peer.sendall(HEAD + expects + b"Content-Length: 9999999\r\n\r\n")
            assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")

    def test_head_and_options(self, server):
        with connect(server) as peer:
            peer.sendall(STATUS)
            full = peer.recv(1 << 16)
            peer.sendall(STATUS.replace(b"GET", b"HEAD"))
            head = peer.recv(1 << 16)
            # Bytes that follow the head would spoil the next answer.
            peer.sendall(STATUS.replace(b"GET", b"OPTIONS"))
            options = peer.recv(1 << 16)

        assert head.startswith(b"HTTP/1.1 200 ")
        assert header(head, "content-length") == str(
            len(full.partition(b"\r\n\r\n")[2])
        )
        assert head.endswith(b"\r\n\r\n")
        assert options.startswith(b"HTTP/1.1 200 ")
        assert header(options, "allow") == "GET, HEAD, OPTIONS"
        asked = HEAD.replace(b"POST", b"OPTIONS") + b"\r\n"
        assert header(ask(server, asked)[1], "allow") == "POST, OPTIONS"

    def test_a_star_is_the_server(self, server):
        """OPTIONS * asks for all that there is; with GET it is no path."""
        star = b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"
        with connect(server) as peer:
            # Also where it waits for the answer before it.
            peer.sendall(STATUS + star + star.replace(b"OPTIONS", b"GET"))
            time.sleep(0.1)
            peer.shutdown(socket.SHUT_WR)
            first, options, refused = read_all(peer).split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200 ")
        assert header(options, "allow") == "GET, HEAD, POST, OPTIONS"
        assert refused.startswith(b"400 ")


class TestClientsFaults:
    """What a client got wrong is told to the client, in one line."""

    @pytest.mark.parametrize(
        "body",
        [
            b'{"inputs": %b}' % (b"[" * 65 + b"1" + b"]" * 65),
            b'{"instances": [%b]}' % (b"[" * 900 + b"]" * 900),
            b'{"inputs": {"word": {"x": %b}}}' % (b"[" * 900 + b"]" * 900),
            b'{"signature_name": %b, "inputs": 1}' % (b"[" * 900 + b"]" * 900),
            b'{"inputs": [%b]}' % (b"9" * 5000),
            b'{"signature_name": "ratio", "inputs": [[%b, 1]]}' % (b"9" * 400),
        ],
    )
    def test_deep_and_large_values(self, rest, caplog, body):
        with caplog.at_level(logging.INFO):
            status, document = rest(PREDICT, body)

        assert status == 400
        assert len(document["error"]) < 1000
        assert not any(record.exc_info for record in caplog.records)
        assert len(caplog.records) <= 1


class TestCostlyRequests:
    """The server of these tests takes bodies of 1 MiB: 16,384 values."""

    @pytest.mark.parametrize(
        "values",
        [b"1," * 300_000, b"[]," * 20_000, b"{}," * 20_000, b"[" * 20_000],
    )
    def test_values_are_counted_before_they_are_built(
        self, rest, monkeypatch, values
    ):
        def parse(body):
            raise AssertionError("It was parsed.")

        monkeypatch.setattr(_json_codec, "_loads", parse)

        status, document = rest(PREDICT, b'{"inputs": [%b1]}' % values)

        assert status == 400
        assert "at most 16384 values" in document["error"]

    def test_marks_inside_of_strings_do_not_count(self, rest):
        word = ',[{\\"' * 10_000
        status, document = rest(PREDICT, {"instances": [word, word]})
        assert status == 200
        assert document["predictions"][1]["score"] == len(word)

    def test_counting_takes_no_longer_for_a_string_without_an_end(self, rest):
        """A pattern would look for the end from each quote: n * n / 2."""
        body = b'{"inputs": "' + b',\\"' * 330_000
        began = time.monotonic()
        assert rest(PREDICT, body)[0] == 400
        assert time.monotonic() - began < 5

    def test_rows_are_counted(self, rest):
        status, document = rest(PREDICT, {"instances": ["a"] * 4097})
        assert status == 400
        assert "at most 4096 rows" in document["error"]
        assert rest(PREDICT, {"instances": ["a"] * 4096})[0] == 200

    def test_lists_are_parsed_without_the_collector(self):
        """A million lists took 1.6 s where half of a tenth was enough."""
        body = b'{"inputs": [' + b"[1]," * 300_000 + b"[1]]}"
        collections = []
        gc.callbacks.append(lambda phase, facts: collections.append(phase))
        try:
            parsed = _json_codec.parse(body, 1 << 20)
            # Those of the other threads' are few.
            assert len(collections) < 20
        finally:
            gc.callbacks.pop()
        assert gc.isenabled()
        assert len(parsed.content) == 300_001


class TestSlowClients:
    @pytest.fixture
    def quick(self, monkeypatch):
        monkeypatch.setattr(_http_connection, "_HEAD_SECONDS", 0.4)
        monkeypatch.setattr(_http_connection, "_REQUEST_SECONDS", 0.6)

    @pytest.mark.parametrize(
        "sent", [b"POST /", HEAD, HEAD + LENGTH + b"\r\n{"]
    )
    def test_a_request_must_come_in_time(self, server, quick, sent):
        """A byte now and then does not prolong it."""
        began = time.monotonic()
        with connect(server) as peer:
            peer.sendall(sent)
            peer.settimeout(0.1)
            answer = b""
            while not answer and time.monotonic() - began < 10:
                with contextlib.suppress(TimeoutError):
                    answer = peer.recv(1 << 16)
                if not answer:
                    peer.sendall(b"x")

        assert answer.startswith(b"HTTP/1.1 408 ")

    def test_drips_close_nothing(self, server, monkeypatch):
        """Clients that send a byte each keep neither REST nor metrics."""
        monkeypatch.setattr(_http_server, "_PATIENCE_SECONDS", 0.3)
        count = _http_server._MAX_CONNECTIONS + _http_server._ROOM_KEPT + 10
        with contextlib.ExitStack() as stack:
            dripping = [
                stack.enter_context(connect(server)) for _ in range(count)
            ]
            for peer in dripping:
                with contextlib.suppress(OSError):
                    peer.sendall(b"P")
            time.sleep(0.4)
            for request in (STATUS, METRICS, WHOLE):
                for peer in dripping[-50:]:
                    with contextlib.suppress(OSError):
                        peer.sendall(b"O")
                assert ask(server, request)[0] == 200

    @pytest.fixture
    def alone(self, models, tmp_path):
        """A server to which no other test has left a connection."""
        toy_model.push(models[1], tmp_path / "toy", 1)
        base = tmp_path / "toy"
        with serving.Server("toy", base, poll_seconds=0.05) as server:
            server.wait_until_available(60)
            yield server

    def test_room_is_kept_for_what_is_cheap(self, alone, monkeypatch):
        """Beyond the limit a prediction is refused in words; a look is not."""
        monkeypatch.setattr(_http_server, "_MAX_CONNECTIONS", 4)
        monkeypatch.setattr(_http_server, "_PATIENCE_SECONDS", 100.0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                peer = stack.enter_context(connect(alone))
                peer.sendall(WHOLE)
                assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")
            status, answer = ask(alone, WHOLE)
            assert status == 503
            assert header(answer, "retry-after") == "1"
            assert header(answer, "connection") == "close"
            assert ask(alone, STATUS)[0] == 200
            assert ask(alone, METRICS)[0] == 200
