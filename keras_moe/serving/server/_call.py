"""A request under way, as the metrics see it."""

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterator

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._server_metrics import ServerMetrics

# The code of a request that was still under way when the server had stopped.
# Nobody was told: for a client that has left it is CANCELLED.
CUT_OFF = "ABORTED"


class Call:
    """Facts about a request, as they become known.

    Attributes:
        method: the API's method, such as `"Predict"`.
        version: the version that answers; `None` until it is known.
        code: canonical status of the answer.
        when_answered: called once the client has the answer. A client that has
            left asks again: nothing counts twice.
    """

    def __init__(self, method: str):
        self.method = method
        self.version: int | None = None
        self.code = "OK"
        self.when_answered: Callable[[], None] = lambda: None


@contextlib.contextmanager
def counted(
    metrics: ServerMetrics, api: str, method: str = ""
) -> Iterator[Call]:
    """Counts what happens within, and how long it takes.

    Args:
        metrics: where it is counted.
        api: `"grpc"` or `"rest"`.
        method: the API's method; may be set later.

    Yields:
        The call, to be told its version.
    """
    call = Call(method)
    start = time.perf_counter()
    try:
        yield call
        # gRPC says by a code that the client has left.
        if call.code == "OK":
            call.when_answered()
    except Exception as error:
        if call.code == "OK":
            call.code = status_codes.canonical_name(error)
        raise
    except BaseException:  # the loop has ended before the answer was there
        call.code = CUT_OFF
        raise
    finally:
        metrics.count_request(
            api,
            call.method,
            call.code,
            time.perf_counter() - start,
            call.version,
        )
