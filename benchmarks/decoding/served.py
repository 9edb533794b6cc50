"""Answers of the exported student, with XLA and without."""

import argparse
import contextlib
import functools
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.decoding import student
from benchmarks.shared.alternating import median_milliseconds
from benchmarks.shared.alternating import seconds_in_turns
from benchmarks.shared.report import Report
from keras_moe import serving
from keras_moe.model_folder import WARMUP_REQUESTS

_WORDS = 320
_WARM_UP = 5
# Requests that a turn has, one after the other: what ran before them, of the
# other kind, leaves the caches cold for the first.
_REQUESTS = 16
_TARGETS = {1: 3.0, 8: 1.4, 32: 1.25}
_START_SECONDS = 180
_SIGNATURES = {"plain": "serving_default", "xla": "compiled"}


def report_in_process(
    report: Report, base: pathlib.Path, options: argparse.Namespace
) -> None:
    """Adds the speed-ups, the cost of compiling, and what two clients get."""
    report.add_claim(
        "compile_seconds_a_shape", max(_compile_seconds(base)), 15.0, "<="
    )
    began = time.perf_counter()
    with _loaded(base) as servable:
        report.add_figures(
            {
                "load_seconds": time.perf_counter() - began,
                "compiled_shapes": servable.warmup_requests,
            }
        )
        words = student.some_words(_WORDS)
        differ = 0
        for size, target in _TARGETS.items():
            batches = [
                np.array(
                    [word.encode() for word in words[i : i + size]], object
                )
                for i in range(0, len(words) - size + 1, size)
            ]
            differ += _num_different(servable, batches) if size == 1 else 0
            _report_speedup(report, servable, size, batches, target, options)
        report.add_claim("answers_that_differ", differ, 0.01 * _WORDS, "<=")
        throughput = {
            clients: _answers_a_second(servable, clients, options.seconds)
            for clients in (1, 2)
        }
        report.add_claim(
            "two_clients_throughput", throughput[2] / throughput[1], 1.7, ">="
        )


def _report_speedup(
    report: Report,
    servable: Any,
    size: int,
    batches: list[np.ndarray],
    target: float,
    options: argparse.Namespace,
) -> None:
    asked = dict.fromkeys(_SIGNATURES, 0)

    def ask(name: str, requests: int) -> None:
        # The same batches in the same order for each.
        for _ in range(requests):
            batch = batches[asked[name] % len(batches)]
            asked[name] += 1
            servable.run({"word": batch}, _SIGNATURES[name])

    def time_turns(requests: int) -> dict[str, float]:
        rounds = max(5, options.rounds // (size * requests))
        times = median_milliseconds(
            {n: functools.partial(ask, n, requests) for n in _SIGNATURES},
            rounds,
            _WARM_UP,
        )
        return {name: ms / requests for name, ms in times.items()}

    times = time_turns(_REQUESTS)
    if size == 1:
        cold = time_turns(1)
        report.add_figures(
            {"xla_speedup_b1_in_cold_caches": cold["plain"] / cold["xla"]}
        )
    report.add_figures({f"{name}_b{size}_ms": ms for name, ms in times.items()})
    report.add_claim(
        f"xla_speedup_b{size}", times["plain"] / times["xla"], target, ">="
    )


def _num_different(servable: Any, batches: list[np.ndarray]) -> int:
    return sum(
        not np.array_equal(
            *(
                servable.run({"word": batch}, signature)["token_ids"]
                for signature in _SIGNATURES.values()
            )
        )
        for batch in batches
    )


@contextlib.contextmanager
def _loaded(base: pathlib.Path) -> Iterator[Any]:
    """Gives the version as the embedded server loads it."""
    with serving.Server("student", base, poll_seconds=0.05) as server:
        server.wait_until_available(_START_SECONDS)
        yield server.servable


def _compile_seconds(base: pathlib.Path) -> list[float]:
    """Returns what the first request of each shape waits for."""
    bare = base.with_name("without_warm_up")
    shutil.copytree(base, bare)
    (bare / "1" / WARMUP_REQUESTS).unlink()
    seconds = []
    with _loaded(bare) as servable:
        for rows in student.BATCH_SIZES:
            for length in student.LENGTHS:
                ids = np.ones((rows, length), "int32")
                began = time.perf_counter()
                servable.run({"token_ids": ids}, "compiled_ids")
                seconds.append(time.perf_counter() - began)
    shutil.rmtree(bare)
    return seconds


def _answers_a_second(servable: Any, clients: int, seconds: float) -> float:
    """Returns how many answers threads get that ask all the time."""
    word = np.array([b"keyboard"], object)
    stop = threading.Event()
    counts = [0] * clients

    def ask(client: int) -> None:
        while not stop.is_set():
            servable.run({"word": word}, "compiled")
            counts[client] += 1

    threads = [
        threading.Thread(target=ask, args=[client]) for client in range(clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def report_over_grpc(report: Report, base: pathlib.Path, rounds: int) -> None:
    """Adds the round trips of a word to a server in another process."""
    words = student.some_words(_WORDS)
    with (
        _server(base) as port,
        serving.Client(grpc_port=port, model_name="student") as client,
    ):
        turn = dict.fromkeys(_SIGNATURES, 0)

        def ask(name: str) -> None:
            word = np.array([words[turn[name] % len(words)].encode()], object)
            turn[name] += 1
            client.predict({"word": word}, _SIGNATURES[name])

        seconds = seconds_in_turns(
            {name: lambda name=name: ask(name) for name in _SIGNATURES},
            rounds,
            _WARM_UP,
        )
    medians = {n: 1000 * statistics.median(s) for n, s in seconds.items()}
    report.add_figures(
        {
            "served_ms_b1": medians["xla"],
            "served_plain_ms_b1": medians["plain"],
        }
    )


@contextlib.contextmanager
def _server(base: pathlib.Path) -> Iterator[int]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "keras_moe.serving.server"),
            *("--model_name=student", f"--model_base_path={base}"),
            *("--port=free", "--end_with_stdin"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            port = json.loads(process.stdout.readline())["grpc_port"]
            _wait(port)
            yield port
        finally:
            # Closes the server's standard input, at which the server ends.
            process.communicate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with serving.Client(grpc_port=port, model_name="student") as client:
        while True:
            try:
                client.predict({"word": ["a"]})
                return
            except serving.ServingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
