"""Silences the frameworks' chatter at its source; warnings that matter stay.

Import it before TensorFlow: its C++ part reads the environment once.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def silence_frameworks() -> None:
    """Turns down what TFX and Beam say about themselves.

    Call it after TFX was imported, which sets the verbosity itself.
    """
    import logging

    from absl import logging as absl_logging

    # ML Metadata reports, several times a component, that it was built
    # without an SQL extension that nothing here uses.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
