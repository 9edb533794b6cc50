"""Frameworks' chatter, turned down at its source; warnings that matter stay."""

import logging

# TFMA reads its own result files through a deprecated function.
_DEPRECATED_IN_TFMA = "tf_record_iterator"


def silence_frameworks() -> None:
    """Turns down what TFX, TFMA and Beam say about themselves.

    TFX sets the verbosity when it is imported: call this function after that.

    Example:
    ```python
    from tfx import v1 as tfx

    keras_moe.orchestration.silence_frameworks()
    ```
    """
    from absl import logging as absl_logging

    # ML Metadata reports, several times a component, that it was built
    # without an SQL extension that nothing here uses.
    absl_logging.set_verbosity(absl_logging.ERROR)
    # Beam logs a failing element, which stands in the exception too.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger("tensorflow").addFilter(_is_not_tfma_deprecation)


def _is_not_tfma_deprecation(record: logging.LogRecord) -> bool:
    return _DEPRECATED_IN_TFMA not in record.getMessage()
