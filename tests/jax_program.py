"""Programs on Keras's JAX backend.

JAX is in an environment of its own, which is added to that of the tests.
"""

import os
import subprocess
import sys
from typing import Any

from benchmarks.shared import environment

# The programs run what they compile once or twice: to optimise it takes most of
# the time.
_UNOPTIMISED = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)


def run_on_jax(module: str, *arguments: Any, devices: int = 1) -> str:
    """Runs a program as `python -m` does, and returns what it printed.

    Args:
        module: its name.
        *arguments: of the program.
        devices: how many logical CPU devices it has.
    """
    python = environment.make("jax")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    paths = [os.environ.get("PYTHONPATH"), str(packages)]
    flags = [f"--xla_force_host_platform_device_count={devices}", *_UNOPTIMISED]
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=environment.ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "XLA_FLAGS": " ".join(flags),
        },
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout
