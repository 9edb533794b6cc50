"""Keeping DTensor from reading variables before they are written.

One of its passes joins all-reduces and then sorts a step's operations by the
tensors that flow between them. That an assignment comes before a read is
nothing that flows: optimizers with slots, which write a mean and read it
again, compute with old values, and no error says so. An environment variable
turns the pass off; TensorFlow reads it when DTensor first compiles a step.
"""

import os

from tensorflow.dtensor.python import api

VARIABLE = "DTENSOR_ENABLE_COMBINE_ALL_REDUCES_OPTIMIZATION"


def forbid_stale_reads() -> None:
    """Turns off DTensor's pass that joins all-reduces; refuses if too late.

    Raises:
        RuntimeError: if the environment turns it on, or DTensor has run
            before the pass was turned off.
    """
    value = os.environ.get(VARIABLE)
    # TensorFlow takes every other value for "on", "false" among them.
    if value not in (None, "0"):
        raise RuntimeError(
            "DTensor would train with stale values: optimizers would read "
            f"variables before they are written. {VARIABLE} must be unset, or "
            f"'0'. Received: {VARIABLE}={value!r}."
        )
    if value is None and api._dtensor_singleton is not None:
        raise RuntimeError(
            "DTensor has run in this process already, and may have been set to "
            f"read variables before they are written. Set {VARIABLE}=0 in the "
            "environment, or make the engine before anything else uses DTensor."
        )
    os.environ[VARIABLE] = "0"
