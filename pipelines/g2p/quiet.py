"""Silences the frameworks' chatter at its source; warnings that matter stay.

Importing this module imports TensorFlow, with its start-up messages left out:
import it before anything that does.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Read once, by TensorFlow's C++ part: errors stay, information goes.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What TensorFlow's libraries write past that setting, before their logging is
# set up: that there is no GPU, and that oneDNN rounds as oneDNN does.
_START_UP = re.compile(rb"^(I0000 |WARNING: All log messages before absl)")

# TFMA reads its own result files through a deprecated function.
_DEPRECATED_IN_TFMA = "tf_record_iterator"


@contextlib.contextmanager
def start_up_messages_left_out() -> Iterator[None]:
    """Drops start-up messages that C++ code writes to standard error.

    Everything else that was written is passed on at the end.
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


def silence_frameworks() -> None:
    """Turns down what TFX, TFMA and Beam say about themselves.

    Call it after TFX was imported, which sets the verbosity itself.
    """
    from absl import logging as absl_logging

    # ML Metadata reports, several times a component, that it was built
    # without an SQL extension that nothing here uses.
    absl_logging.set_verbosity(absl_logging.ERROR)
    # A failing element is in the exception too, once.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger("tensorflow").addFilter(_is_not_tfma_deprecation)


def _is_not_tfma_deprecation(record: logging.LogRecord) -> bool:
    return _DEPRECATED_IN_TFMA not in record.getMessage()


with start_up_messages_left_out():
    import tensorflow  # noqa: E402, F401
