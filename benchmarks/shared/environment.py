"""Environments of the peers: made once, each from its own locked versions."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "peers"
_SETUP_SECONDS = 1800


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
    # Use the interpreter that .venv was made from: the one in .venv may be
    # bound to a C library of its own.
    base = pathlib.Path(sys.base_prefix) / "bin" / "python3.11"
    run([uv, "venv", "-q", "--python", base, folder], with_index())
    # Install nothing beyond the lock: it has what the timed layer imports; the
    # peer's other requirements are not needed.
    run(
        [uv, "pip", "install", "-q", "--no-deps", "--python", python]
        + ["--requirement", lock],
        with_index(),
    )
    stamp.write_text(wanted)
    return python


def with_index() -> dict[str, str]:
    """Returns variables by which uv uses the mirror of pip's, if any."""
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


def run(
    command: list[Any],
    environment: Mapping[str, str],
    seconds: float = _SETUP_SECONDS,
) -> str:
    """Runs a command in the repository, and returns what it printed.

    Args:
        command: program and arguments.
        environment: all of its variables.
        seconds: how long it may take.

    Raises:
        RuntimeError: if it failed; the message has what it said.
    """
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
