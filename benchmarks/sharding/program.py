"""Runs a program that has a mesh of logical devices to itself."""

import json
import os
import subprocess
import sys
from typing import Any

DEVICES = 8
_SECONDS = 1800


def run(module: str, *arguments: Any, **environment: str) -> Any:
    """Runs a program and returns what it printed last, as JSON.

    Args:
        module: such as `"benchmarks.sharding.losses"`.
        *arguments: of its command line.
        **environment: variables to set besides.

    Raises:
        RuntimeError: if it failed; the message has what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise RuntimeError(
            f"{module} {arguments} ended with {done.returncode}:\n"
            f"{done.stderr[-4000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def make_devices() -> None:
    """Cuts the CPU into logical devices; TensorFlow must not have begun."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * DEVICES
    tf.config.set_logical_device_configuration(cpu, devices)
