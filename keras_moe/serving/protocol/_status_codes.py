"""One error, three spellings: TensorFlow's, gRPC's and HTTP's.

TensorFlow's error classes carry the same canonical codes as gRPC statuses, so
the serving code raises those, and so does a failing session: neither needs
translation until the answer is written.
"""

import logging

import tensorflow as tf

_LOG = logging.getLogger(__name__)

# The mapping of TensorFlow Serving's HTTP front end.
_HTTP = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_NAMES = dict(enumerate(_HTTP, start=1))
_MAX_MESSAGE = 1000


def invalid_argument(message: str) -> tf.errors.InvalidArgumentError:
    """Makes the error for a request that cannot be right."""
    return tf.errors.InvalidArgumentError(None, None, message)


def not_found(message: str) -> tf.errors.NotFoundError:
    """Makes the error for a model or version that is not served."""
    return tf.errors.NotFoundError(None, None, message)


def unimplemented(message: str) -> tf.errors.UnimplementedError:
    """Makes the error for what only a full model server offers."""
    return tf.errors.UnimplementedError(None, None, message)


def canonical_name(error: Exception) -> str:
    """Names an error's canonical code; what is none of ours is `INTERNAL`."""
    if isinstance(error, tf.errors.OpError):
        return _NAMES.get(error.error_code, "UNKNOWN")
    if isinstance(error, (ConnectionError, TimeoutError)):
        return "CANCELLED"
    return "INTERNAL"


def describe(error: Exception) -> tuple[str, str]:
    """Names an error's canonical code and its message, cut to a fair length.

    Anything that is not a TensorFlow error is a fault of the server: it is
    logged with its traceback and reported as `INTERNAL`.
    """
    if isinstance(error, tf.errors.OpError):
        name = canonical_name(error)
        return name, (error.message or name)[:_MAX_MESSAGE]
    _LOG.error("Unexpected error while answering", exc_info=error)
    return "INTERNAL", f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]


def http_status(name: str) -> int:
    """Gives the HTTP status of a canonical code."""
    return _HTTP[name]


def from_http_status(status: int) -> str:
    """Gives the likeliest canonical code of an HTTP status."""
    codes = {400: "INVALID_ARGUMENT", 413: "RESOURCE_EXHAUSTED"}
    codes[411] = "INVALID_ARGUMENT"
    codes |= {404: "NOT_FOUND", 500: "INTERNAL"}
    if status in codes:
        return codes[status]
    return next((n for n, s in _HTTP.items() if s == status), "UNKNOWN")


def code_number(name: str) -> int:
    """Gives the number of a canonical code; `"OK"` is 0."""
    return next((n for n, known in _NAMES.items() if known == name), 0)


def code_name(code: int) -> str:
    """Gives the canonical name of a code's number."""
    return "OK" if code == 0 else _NAMES.get(code, "UNKNOWN")
