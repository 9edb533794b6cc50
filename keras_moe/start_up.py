"""The first import of Keras: sooner, and silent if the user wants it.

With the environment variable `KERAS_MOE_QUIET` set to anything but `0`, the
first import of `keras_moe` imports TensorFlow without what its libraries write
to standard error: that there is no GPU, and that oneDNN rounds as oneDNN does.
A program that has imported `keras` or `tensorflow` before has seen it already.
The `__init__.py` of a project comes before its modules, in whichever order
these import:

```python
os.environ.setdefault("KERAS_MOE_QUIET", "1")
import keras_moe
```
"""

import contextlib
import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator

VARIABLE = "KERAS_MOE_QUIET"

# Written before TensorFlow's logging is set up, whatever its level.
_START_UP = re.compile(rb"^(I0000 |WARNING: All log messages before absl)")


@contextlib.contextmanager
def start_up_messages_left_out() -> Iterator[None]:
    """Drops start-up messages that C++ code writes to standard error.

    Everything else that was written is passed on at the end of the block.

    Example:
    ```python
    with start_up_messages_left_out():
        import tfx
    ```
    """
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
            written.seek(0)
            for line in written:
                if not _START_UP.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def garbage_left_alone() -> Iterator[None]:
    """Collects no garbage within the block.

    Modules stay as long as the process. To look through them for garbage while
    more are imported takes a quarter of the import of TensorFlow.

    Example:
    ```python
    with garbage_left_alone():
        import tfx
    ```
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


with garbage_left_alone():
    if os.environ.get(VARIABLE, "0") != "0":
        # TensorFlow's C++ part reads the level once: errors stay, information
        # goes.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with start_up_messages_left_out():
            import tensorflow  # noqa: F401
    # With its backend.
    import keras  # noqa: F401
