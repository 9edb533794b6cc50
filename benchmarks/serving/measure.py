"""Overhead, latency, changes of version and attacks, each measured."""

import argparse
import contextlib
import os
import pathlib
import shutil
import sys
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from benchmarks.serving import malformed
from benchmarks.serving import models
from benchmarks.serving.bare_grpc import bare_call
from benchmarks.serving.clients import Answer
from benchmarks.serving.clients import grpc_client
from benchmarks.serving.clients import rest_client
from benchmarks.serving.clients import run_clients
from benchmarks.serving.server_process import MODEL
from benchmarks.serving.server_process import START_SECONDS
from benchmarks.serving.server_process import server_process
from benchmarks.serving.sharing import sharing
from benchmarks.shared.alternating import median_milliseconds
from benchmarks.shared.report import Report
from keras_moe import serving

WORDS = ["pronunciation", "abacus", "zürich", "a", "serve", "early", "exit"]
CLIENTS = (1, 8, 32)
MAX_BATCH_ROWS = 32
TARGET_MS = 1.0
_KEPT = 3


def overhead(folder: pathlib.Path, rounds: int) -> dict[str, float]:
    """Times one word: the callable itself, and through the server.

    Args:
        folder: for the model; new.
        rounds: requests of each kind.

    Returns:
        Median milliseconds of each, and what the server adds.
    """
    models.save_words(folder / "base/1", malformed.SCALE)
    array = np.array([WORDS[0].encode()], dtype=object)
    with contextlib.ExitStack() as stack:
        # This server gets no requests: it loads the model, and the timed
        # callable is the one that it would call.
        idle = stack.enter_context(serving.Server(MODEL, folder / "base"))
        idle.wait_until_available(START_SECONDS)
        runner = idle.servable.runner(idle.servable.signature())
        server = stack.enter_context(
            server_process(folder / "base", folder / "log")
        )
        by_grpc = stack.enter_context(grpc_client(server.grpc_port))
        by_rest = stack.enter_context(rest_client(server.rest_port))
        times = median_milliseconds(
            {
                "direct_ms": lambda: runner(array),
                "grpc_ms": lambda: by_grpc(WORDS[0]),
                "rest_ms": lambda: by_rest(WORDS[0]),
                "bare_grpc_ms": stack.enter_context(
                    bare_call(server.bare_port)
                ),
            },
            rounds,
        )
    return {
        **times,
        "rest_overhead_ms": times["rest_ms"] - times["direct_ms"],
        # The part of the overhead that any gRPC server in Python would add on
        # this machine.
        "bare_grpc_overhead_ms": times["bare_grpc_ms"] - times["direct_ms"],
    }


def latency(
    saved: pathlib.Path, folder: pathlib.Path, seconds: float
) -> dict[str, float]:
    """Times clients that ask at once, with batching and without.

    Args:
        saved: the model.
        folder: for the server; new.
        seconds: of load, for each number of clients.
    """
    shutil.copytree(saved, folder / "base/1")
    figures = {}
    for name, options in (
        # Both servers get the same number of threads, so that they differ in
        # batching alone.
        ("unbatched", {"max_workers": max(CLIENTS)}),
        ("batched", {"max_batch_rows": MAX_BATCH_ROWS}),
    ):
        with server_process(
            folder / "base", folder / f"log-{name}", **options
        ) as server:
            for count in CLIENTS:
                clients = [grpc_client(server.grpc_port) for _ in range(count)]
                load = run_clients(clients, WORDS, seconds)
                if load.failures:
                    raise RuntimeError(f"Requests failed: {load.failures[:3]}")
                at = f"{name}_{count}_clients"
                figures[f"{at}_p50_ms"] = load.milliseconds(50)
                figures[f"{at}_p99_ms"] = load.milliseconds(99)
                figures[f"{at}_requests_per_second"] = load.per_second()
    most = max(CLIENTS)
    figures["batching_throughput_ratio"] = (
        figures[f"batched_{most}_clients_requests_per_second"]
        / figures[f"unbatched_{most}_clients_requests_per_second"]
    )
    return figures


def swaps(
    saved: Sequence[pathlib.Path],
    folder: pathlib.Path,
    seconds: float,
    swap_seconds: float,
) -> dict[str, float]:
    """Asks all the time while versions come and go.

    Args:
        saved: two models that answer differently.
        folder: for the versions; new.
        seconds: how long.
        swap_seconds: pause between two pushes.

    Returns:
        Requests, failures, versions that were pushed and that answered.
    """
    base = folder / "base"
    base.mkdir(parents=True)
    answers = [_answers(path) for path in saved]
    models.push(saved[1], base, 1)
    served: set[int] = set()

    def is_right(word: str, version: int | None, answer: Answer) -> bool:
        if version is None:
            return any(_same(known[word], answer) for known in answers)
        served.add(version)
        return _same(answers[version % 2][word], answer)

    with server_process(
        base,
        folder / "log",
        poll_seconds=0.5,
        max_batch_rows=MAX_BATCH_ROWS,
    ) as server:
        clients = [
            ask(port, label)
            for ask, port in (
                (grpc_client, server.grpc_port),
                (rest_client, server.rest_port),
            )
            for label in ("", "", "stable", "canary")
        ]
        stop = threading.Event()
        pushed = [1]

        def push() -> None:
            while not stop.wait(swap_seconds):
                version = pushed[-1] + 1
                models.push(saved[version % 2], base, version)
                pushed.append(version)
                for old in pushed[:-_KEPT]:
                    shutil.rmtree(base / str(old), ignore_errors=True)

        pushing = threading.Thread(target=push)
        pushing.start()
        load = run_clients(clients, WORDS, seconds, is_right, stop)
        pushing.join()
    for failure in load.failures[:5]:
        print("failed:", failure, file=sys.stderr)
    return {
        "swap_requests": len(load.seconds),
        "failed_requests": len(load.failures),
        "swap_p50_ms": load.milliseconds(50),
        "swap_p99_ms": load.milliseconds(99),
        "versions_pushed": len(pushed),
        "versions_that_answered": len(served),
    }


def attack(folder: pathlib.Path, count: int, seed: int) -> dict[str, float]:
    """Sends malformed requests, and asks for a word in the end.

    Args:
        folder: for the model; new.
        count: how many.
        seed: of the mutations.
    """
    models.save_words(folder / "base/1", malformed.SCALE)
    with server_process(
        folder / "base", folder / "log", max_request_bytes=malformed.MAX_BYTES
    ) as server:
        # Warm the server up first: buffers and caches grow with the first
        # requests, whatever these hold.
        malformed.send(server, max(1, count // 5), seed + 1)
        before = server.resident_mib()
        outcome = malformed.send(server, count, seed)
        growth = server.resident_mib() - before
        crashes = list(outcome.crashes)
        for client in (
            grpc_client(server.grpc_port),
            rest_client(server.rest_port),
        ):
            with client as ask:
                if ask("ab")[1]["score"] != 2 * malformed.SCALE:
                    crashes.append("Afterwards it answered wrongly.")
    for name, found in (("crash", crashes), ("success", outcome.successes)):
        for text in found[:5]:
            print(f"{name}: {text[:500]}", file=sys.stderr)
    return {
        "malformed_requests": outcome.malformed,
        "valid_mutations": outcome.valid,
        "malformed_crashes": len(crashes),
        "malformed_successes": len(outcome.successes),
        "malformed_memory_growth_mib": growth,
        "memory_mib": before,
    }


def measure(options: argparse.Namespace, folder: pathlib.Path) -> Report:
    """Measures everything that the benchmark reports."""
    report = Report("The embedded model server")
    report.add_figures({"load_average": os.getloadavg()[0]})
    times = overhead(folder / "overhead", options.rounds)
    report.add_figures(times)
    report.add_claim(
        "overhead_ms_batch1",
        times["grpc_ms"] - times["direct_ms"],
        TARGET_MS,
        "<=",
    )
    saved = [
        models.save_transformer(folder / f"model-{seed}", seed)
        for seed in range(2)
    ]
    report.add_figures(
        latency(saved[0], folder / "latency", options.load_seconds)
    )
    changes = swaps(
        saved, folder / "swaps", options.seconds, options.swap_seconds
    )
    report.add_claim("failed_requests", changes.pop("failed_requests"), 0, "==")
    report.add_figures(changes)
    report.add_figures(sharing(saved, folder / "sharing", options.load_seconds))
    broken = attack(folder / "attack", options.malformed, options.seed)
    for name in ("malformed_crashes", "malformed_successes"):
        report.add_claim(name, broken.pop(name), 0, "==")
    # Memory counts as flat if it grew by less than a kilobyte a request.
    report.add_claim(
        "malformed_memory_growth_mib",
        broken.pop("malformed_memory_growth_mib"),
        options.malformed / 1024,
        "<=",
    )
    report.add_figures(broken)
    return report


def _answers(saved: pathlib.Path) -> dict[str, Answer]:
    signature = tf.saved_model.load(saved).signatures["serving_default"]
    answers = {}
    for word in WORDS:
        outputs = signature(word=tf.constant([word]))
        answers[word] = {k: v.numpy().tolist()[0] for k, v in outputs.items()}
    return answers


def _same(expected: Answer, answer: Answer) -> bool:
    """Tells whether answers agree: text and tokens equal, numbers close."""
    if expected.keys() != answer.keys():
        return False
    for name, value in expected.items():
        received = answer[name]
        if isinstance(value, bytes):
            value = value.decode()
            received = (
                received.decode() if isinstance(received, bytes) else received
            )
            if value != received:
                return False
        elif not np.allclose(value, received, rtol=1e-4, atol=1e-5):
            return False
    return True
