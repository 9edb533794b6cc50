"""Programs in processes of their own, without importing TensorFlow anew.

The import takes seconds. A test that needs another process, for its devices,
its names or its peak of memory, does not need another import: its process is
forked from a server that has imported TensorFlow, and computed nothing.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any


def run_module(
    module: str, *arguments: Any, **environment: str
) -> subprocess.CompletedProcess:
    """Runs a program as `python -m` does, and returns what it printed."""
    return _run(_run_module, module, arguments, environment)


def run_text(
    text: str, *arguments: Any, **environment: str
) -> subprocess.CompletedProcess:
    """Runs a program as `python -c` does, and returns what it printed."""
    return _run(_run_text, text, arguments, environment)


def start(function: Callable, *arguments: Any) -> BaseProcess:
    """Starts a process that calls a function of a module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    process = context.Process(target=function, args=arguments, daemon=False)
    process.start()
    return process


def _run(
    function: Callable,
    program: str,
    arguments: tuple,
    environment: dict[str, str],
    timeout: float = 550,
) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        argv = [str(argument) for argument in arguments]
        process = start(
            *(_begin, folder, {**os.environ, **environment}),
            *(function, program, argv),
        )
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(program, timeout)
        return subprocess.CompletedProcess(
            [program, *argv],
            process.exitcode,
            *(
                (folder / name).read_text(errors="replace")
                for name in ("stdout", "stderr")
            ),
        )


def _begin(
    folder: pathlib.Path,
    environment: dict[str, str],
    function: Callable,
    program: str,
    arguments: list[str],
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        with open(folder / name, "wb") as file:
            os.dup2(file.fileno(), number)
    # The server was started by another test, with its environment.
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    function(program)


def _run_module(module: str) -> None:
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _run_text(text: str) -> None:
    exec(compile(text, "<text>", "exec"), {"__name__": "__main__"})
