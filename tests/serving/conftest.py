"""Models and a running server, made once for all the tests in this folder."""

import json
import time
import urllib.error
import urllib.request

import pytest

from keras_moe import serving
from tests.serving import toy_model

TIMEOUT = 60


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Two models, apart by their scale: the score says who answered."""
    folder = tmp_path_factory.mktemp("models")
    saved = {
        scale: toy_model.save(folder / f"scale-{scale}", float(scale))
        for scale in (1, 2)
    }
    serving.write_warmup_requests(
        saved[1],
        [
            ("serving_default", {"word": ["a", "bc"]}),
            ("serving_default", {"word": ["d"]}),
            ("with_threshold", {"word": ["e"], "threshold": [0.5]}),
        ],
    )
    toy_model.write_page(saved[1])
    return saved


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    base = tmp_path_factory.mktemp("serving") / "toy"
    toy_model.push(models[1], base, 3)
    with serving.Server(
        "toy", base, poll_seconds=0.05, max_request_bytes=1 << 20
    ) as server:
        server.wait_until_available(TIMEOUT)
        yield server


@pytest.fixture(scope="session")
def client(server):
    with serving.Client(
        grpc_port=server.grpc_port,
        rest_port=server.rest_port,
        model_name="toy",
    ) as client:
        yield client


@pytest.fixture
def rest(server):
    """Sends a raw body (or a GET) and gives the status and the document."""

    def send(path, body=None, headers=()):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.rest_port}{path}",
            data=body,
            headers=dict(headers),
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return send


@pytest.fixture
def eventually():
    """Waits for a condition, for a bounded time."""

    def wait(condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "It did not come true."
            time.sleep(0.02)

    return wait
