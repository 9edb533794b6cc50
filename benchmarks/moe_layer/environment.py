"""Environments of the peers: made once, each from its own locked versions."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

from benchmarks.moe_layer.task import Task

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "peers"
_SETUP_SECONDS, _TIMING_SECONDS = 1800, 900


def make(name: str) -> pathlib.Path:
    """Makes `build/peers/NAME` from `constraints/peers/NAME.txt`.

    An environment that is there, complete and from the same versions, is left
    as it is.

    Args:
        name: name of the peer.

    Returns:
        The interpreter.

    Raises:
        RuntimeError: if it cannot be made; the message says why.
    """
    lock = ROOT / "constraints" / "peers" / f"{name}.txt"
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / ".ready"
    wanted = lock.read_text()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = ROOT / ".venv" / "bin" / "uv"
    # The interpreter that .venv was made from: that in .venv may be bound to
    # a C library of its own.
    base = pathlib.Path(sys.base_prefix) / "bin" / "python3.11"
    _run([uv, "venv", "-q", "--python", base, folder], _environment())
    # No dependencies beyond the lock: what the layer imports is in it, the
    # rest of the peer's requirements is not.
    _run(
        [uv, "pip", "install", "-q", "--no-deps", "--python", python]
        + ["--requirement", lock],
        _environment(),
    )
    stamp.write_text(wanted)
    return python


def time_layer(
    python: pathlib.Path | str, module: str, task: Task
) -> dict[str, Any]:
    """Runs a timing program in a process of its own.

    Args:
        python: interpreter.
        module: such as `"benchmarks.moe_layer.time_transformers"`.
        task: what to time.

    Returns:
        The figures it answered.

    Raises:
        RuntimeError: if it failed.
    """
    command: list[Any] = [python, "-m", module]
    for name, value in task._asdict().items():
        command += [f"--{name}", value]
    answer = _run(command, {**os.environ, **_QUIET}, _TIMING_SECONDS)
    return json.loads(answer.splitlines()[-1])


_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def _environment() -> dict[str, str]:
    """Lets uv use the mirror that pip is configured for, if any."""
    variables = dict(os.environ)
    if "UV_DEFAULT_INDEX" not in variables:
        found = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        if found:
            variables["UV_DEFAULT_INDEX"] = found
    return {"UV_HTTP_TIMEOUT": "180", **variables}


def _run(
    command: list[Any], environment: dict[str, str], seconds=_SETUP_SECONDS
) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(str(part) for part in command)} failed:\n"
            f"{done.stderr[-2000:]}"
        )
    return done.stdout
