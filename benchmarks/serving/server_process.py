"""Program: the embedded model server in a process of its own."""

import contextlib
import json
import os
import pathlib
import selectors
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import numpy as np

from benchmarks.serving.bare_grpc import behind_bare_grpc
from keras_moe import serving

MODEL = "model"
START_SECONDS = 180


class ServerProcess(NamedTuple):
    """A running server.

    Attributes:
        process: its process.
        grpc_port: where it answers over gRPC.
        rest_port: where it answers over REST.
        bare_port: where the same callable answers over gRPC and nothing more.
    """

    process: subprocess.Popen
    grpc_port: int
    rest_port: int
    bare_port: int

    def resident_mib(self) -> float:
        """Gives the memory that it holds."""
        pages = int(
            pathlib.Path(f"/proc/{self.process.pid}/statm")
            .read_text()
            .split()[1]
        )
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def server_process(
    base: pathlib.Path, log: pathlib.Path, **options: Any
) -> Iterator[ServerProcess]:
    """Runs a server for the length of a context.

    Args:
        base: folder of the versions.
        log: file for what the server says.
        options: more arguments of `keras_moe.serving.Server`.

    Yields:
        The server, which answers.
    """
    command = [sys.executable, "-m", __spec__.name, str(base)]
    with open(log, "w") as output:
        process = subprocess.Popen(
            [*command, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    with process:
        try:
            yield ServerProcess(process, *_ports(process, log))
        finally:
            # `communicate` closes the server's standard input, at which the
            # server ends.
            process.communicate()


def _ports(process: subprocess.Popen, log: pathlib.Path) -> list[int]:
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = ""
        if selector.select(START_SECONDS):
            line = process.stdout.readline()
    if not line:
        process.kill()
        raise RuntimeError(f"The server did not start:\n{log.read_text()}")
    return json.loads(line)


def main() -> None:
    """Serves until the standard input ends."""
    base, options = sys.argv[1], json.loads(sys.argv[2])
    with serving.Server(MODEL, base, **options) as server:
        server.wait_until_available(START_SECONDS)
        servable = server.servable
        signature = servable.signature()
        runner = servable.runner(signature)
        word = np.array([b"pronunciation"], dtype=object)
        with behind_bare_grpc(lambda: runner(word)) as bare_port:
            ports = [server.grpc_port, server.rest_port, bare_port]
            print(json.dumps(ports), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
