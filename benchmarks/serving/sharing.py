"""Both transports under load at once, while a version is loaded."""

import concurrent.futures
import pathlib
import threading
import time
from collections.abc import Sequence

from benchmarks.serving import models
from benchmarks.serving.clients import grpc_client
from benchmarks.serving.clients import rest_client
from benchmarks.serving.clients import run_clients
from benchmarks.serving.server_process import MODEL
from benchmarks.serving.server_process import server_process
from keras_moe import serving

_CLIENTS = 32
_WORDS = ["pronunciation", "abacus", "a", "serve", "early", "exit"]
_MOST_SECONDS = 300.0


def sharing(
    saved: Sequence[pathlib.Path], folder: pathlib.Path, seconds: float
) -> dict[str, float]:
    """Has 32 clients ask over each transport while a version is loaded.

    Args:
        saved: two models.
        folder: for the versions; new.
        seconds: of load, at least.

    Returns:
        The throughput of each transport, and the seconds from a push to the
        version's first answer.
    """
    base = folder / "base"
    base.mkdir(parents=True)
    models.push(saved[0], base, 1)
    stop = threading.Event()
    with (
        server_process(base, folder / "log") as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
        serving.Client(grpc_port=server.grpc_port, model_name=MODEL) as client,
    ):
        loads = [
            pool.submit(
                run_clients,
                [ask(port) for _ in range(_CLIENTS)],
                _WORDS,
                _MOST_SECONDS,
                stop=stop,
            )
            for ask, port in (
                (grpc_client, server.grpc_port),
                (rest_client, server.rest_port),
            )
        ]
        stop.wait(seconds / 2)
        began = time.monotonic()
        models.push(saved[1], base, 2)
        try:
            while _state(client, 2) != "AVAILABLE":
                stop.wait(0.2)
            loading = time.monotonic() - began
            stop.wait(seconds / 2)
        finally:
            stop.set()
        by_grpc, by_rest = (load.result().per_second() for load in loads)
    return {
        "shared_grpc_requests_per_second": by_grpc,
        "shared_rest_requests_per_second": by_rest,
        "loading_seconds_under_64_clients": loading,
    }


def _state(client: serving.Client, version: int) -> str:
    state = client.status(timeout=60).get(version)
    return state.state if state else ""
