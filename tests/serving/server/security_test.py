"""TLS, tokens and limits: who is refused, and who is not."""

import contextlib
import http.client
import json
import socket
import ssl
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc

from keras_moe import serving
from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server.rest import _http_server
from tests.serving import toy_model
from tests.serving.self_signed import certify

TOKEN = "a-long-enough-secret"
WORD = {"word": ["ab"]}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return {name: certify(folder, name) for name in ("server", "other")}


@pytest.fixture(scope="module")
def base(models, tmp_path_factory):
    base = tmp_path_factory.mktemp("secured") / "toy"
    toy_model.push(models[1], base, 1)
    return base


@contextlib.contextmanager
def serving_of(base, **options):
    with serving.Server("toy", base, poll_seconds=0.05, **options) as server:
        server.wait_until_available()
        yield server


def ask(server, method="predict", **options):
    with serving.Client(
        grpc_port=server.grpc_port,
        rest_port=server.rest_port,
        model_name="toy",
        **options,
    ) as client:
        return getattr(client, method)(WORD, timeout=5)["score"].tolist()


METHODS = pytest.mark.parametrize("method", ["predict", "predict_rest"])


class TestTls:
    @pytest.fixture(scope="class")
    def server(self, base, certificates):
        tls = serving.Tls(*certificates["server"])
        with serving_of(base, tls=tls) as server:
            yield server

    @METHODS
    def test_known_authority(self, server, certificates, method):
        authority = certificates["server"][0]
        answer = ask(server, method, certificate_authority=authority)
        assert answer == [2.0]

    @METHODS
    def test_in_the_clear_or_unknown(self, server, certificates, method):
        for options in (
            {},
            {"certificate_authority": certificates["other"][0]},
        ):
            with pytest.raises(serving.ServingError) as caught:
                ask(server, method, **options)
            assert caught.value.code == "UNAVAILABLE"

    def test_a_silent_client_keeps_nobody_waiting(self, server, certificates):
        silent = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        silent.connect()
        authority = certificates["server"][0]
        answer = ask(server, "predict_rest", certificate_authority=authority)
        assert answer == [2.0]
        silent.close()

    def test_clients_that_shake_no_hands_make_way(
        self, server, certificates, monkeypatch
    ):
        monkeypatch.setattr(_http_server, "_MAX_CONNECTIONS", 2)
        monkeypatch.setattr(_http_server, "_ROOM_KEPT", 0)
        monkeypatch.setattr(_http_server, "_PATIENCE_SECONDS", 0.1)
        address = "127.0.0.1", server.rest_port
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(address))
            time.sleep(0.2)
            authority = certificates["server"][0]
            answer = ask(
                server, "predict_rest", certificate_authority=authority
            )
            assert answer == [2.0]

    def test_an_answer_ends_a_connection_at_once(self, server, certificates):
        """TLS has no half-closed connections to linger in."""
        context = ssl.create_default_context(cafile=certificates["server"][0])
        address = "127.0.0.1", server.rest_port
        for request, status in (
            ("GET /v1/models/toy HTTP/1.0\r\n\r\n", b"200"),
            (
                "GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                b"400",
            ),
        ):
            began = time.monotonic()
            with context.wrap_socket(
                socket.create_connection(address, timeout=10),
                server_hostname="127.0.0.1",
            ) as peer:
                peer.sendall(request.encode())
                answer = b""
                while part := peer.recv(1000):
                    answer += part
            assert answer.split()[1] == status
            assert time.monotonic() - began < 1.5

    def test_old_protocols_are_refused(self, server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.rest_port, context=context, timeout=5
        )
        with pytest.raises(OSError):
            connection.request("GET", "/v1/models/toy")

    def test_clients_must_show_a_certificate(self, base, certificates):
        certificate, key = certificates["server"]
        tls = serving.Tls(certificate, key, certificates["other"][0])
        with serving_of(base, tls=tls) as server:
            for method in ("predict", "predict_rest"):
                with pytest.raises(serving.ServingError):
                    ask(server, method, certificate_authority=certificate)
            context = ssl.create_default_context(cafile=certificate)
            context.load_cert_chain(*certificates["other"])
            connection = http.client.HTTPSConnection(
                "127.0.0.1", server.rest_port, context=context, timeout=5
            )
            connection.request("GET", "/v1/models/toy")
            assert connection.getresponse().status == 200

    def test_files_that_do_not_fit(self, certificates, tmp_path):
        server, other = certificates["server"], certificates["other"]
        with pytest.raises(ValueError, match="fit each other"):
            serving.Tls(server[0], other[1])
        with pytest.raises(ValueError, match="`private_key` must be a PEM"):
            serving.Tls(server[0], tmp_path / "missing")
        with pytest.raises(ValueError, match="fit each other"):
            serving.Tls(*server, client_authority=server[1])


class TestToken:
    @pytest.fixture(scope="class")
    def server(self, base):
        with serving_of(base, token=TOKEN) as server:
            yield server

    @METHODS
    def test_right_and_wrong(self, server, method):
        assert ask(server, method, token=TOKEN) == [2.0]
        for options in ({}, {"token": TOKEN + "x"}, {"token": "x"}):
            with pytest.raises(serving.ServingError) as caught:
                ask(server, method, **options)
            assert caught.value.code == "UNAUTHENTICATED"
            assert TOKEN not in caught.value.message

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/models/toy",
            "/v1/models/toy/metadata",
            "/monitoring/prometheus/metrics",
            "/page/model.json",
            "/page/1/load.png",
            "/nothing",
        ],
    )
    def test_nothing_is_told_without_it(self, server, path):
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_port, timeout=5
        )
        for header in ("", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \xff"):
            connection.request("GET", path, headers={"Authorization": header})
            response = connection.getresponse()
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            response.read()

    def test_the_files_of_the_page_are_the_same_of_every_model(self, server):
        """Whoever knows the token gives it to the page, not to the browser."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_port, timeout=5
        )
        for path in ("/", "/page/page.js"):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert b"toy" not in response.read().lower()

    def test_what_strangers_send_is_not_parsed(self, server):
        address = f"127.0.0.1:{server.grpc_port}"
        with grpc.insecure_channel(address) as channel:
            for method in (
                "/tensorflow.serving.PredictionService/Predict",
                "/tensorflow.serving.ModelService/GetModelStatus",
                "/nothing/Here",
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(method)(b"\xff" * 100, timeout=5)
                assert caught.value.code().name == "UNAUTHENTICATED"

    def test_refusals_are_counted(self, server):
        with pytest.raises(serving.ServingError):
            ask(server)
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        connection.request(
            "GET",
            "/monitoring/prometheus/metrics",
            headers={"Authorization": f"bearer {TOKEN}"},
        )
        text = connection.getresponse().read().decode()
        assert (
            'requests_total{api="grpc",code="UNAUTHENTICATED",method="",'
            in text
        )


class TestRate:
    @METHODS
    def test_too_many(self, base, method):
        # Slow enough that none is added while the test runs.
        with serving_of(base, requests_per_second=1e-6, burst=3) as server:
            codes = []
            for _ in range(5):
                try:
                    ask(server, method)
                    codes.append("OK")
                except serving.ServingError as error:
                    codes.append(error.code)
        # Over REST each question takes a second request, for the metadata.
        let_in = {"predict": 3, "predict_rest": 1}[method]
        assert codes.count("OK") == let_in
        assert set(codes[let_in:]) == {"RESOURCE_EXHAUSTED"}

    def test_average_and_burst(self):
        now = 0.0
        gate = Gate(requests_per_second=10, burst=5, clock=lambda: now)

        def let_in(count):
            done = 0
            for _ in range(count):
                with contextlib.suppress(tf.errors.ResourceExhaustedError):
                    gate.check(None)
                    done += 1
            return done

        assert let_in(20) == 5
        now = 0.2
        assert let_in(20) == 2
        now = 100.0
        assert let_in(20) == 5

    def test_strangers_use_nothing_up(self):
        gate = Gate(TOKEN, requests_per_second=1e-6, burst=1)
        for _ in range(5):
            with pytest.raises(tf.errors.UnauthenticatedError):
                gate.check(None)
        gate.check(f"Bearer {TOKEN}")
        with pytest.raises(tf.errors.ResourceExhaustedError):
            gate.check(f"Bearer {TOKEN}")


class TestSize:
    """Sizes are refused over both ways by a server with a small limit."""

    @pytest.fixture(scope="class")
    def server(self, base):
        with serving_of(base, max_request_bytes=10_000) as server:
            yield server

    @METHODS
    def test_large(self, server, method):
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="toy",
        ) as client:
            answer = getattr(client, method)
            assert answer({"word": ["x" * 9000]})["score"] == [9000.0]
            with pytest.raises(serving.ServingError) as caught:
                answer({"word": np.array(["x" * 20_000])})
            assert caught.value.code == "RESOURCE_EXHAUSTED"

    def test_status_too(self, server):
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(stub.GetModelStatus._method.decode())(
                    b"x" * 20_000, timeout=5
                )
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"


def test_answers_are_json_whatever_is_refused(base):
    with serving_of(base, token=TOKEN) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        connection.request("POST", "/v1/models/toy:predict", b"x" * 1000)
        response = connection.getresponse()
        assert "token" in json.loads(response.read())["error"]
