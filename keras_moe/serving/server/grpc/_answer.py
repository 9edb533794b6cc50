"""How every gRPC method answers: counted, and with a status if it fails."""

import contextlib
from collections.abc import Iterator

import grpc

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._call import counted
from keras_moe.serving.server._server_metrics import ServerMetrics

_GRPC_CODES = {code.name: code for code in grpc.StatusCode}


@contextlib.contextmanager
def answer(
    context: grpc.ServicerContext, metrics: ServerMetrics, method: str
) -> Iterator[Call]:
    """Counts a call, and turns what it raises into a gRPC status.

    Args:
        context: gRPC's, of the call.
        metrics: where it is counted.
        method: the method's name, such as `"Predict"`.

    Yields:
        The call, to be told its version.
    """
    try:
        with counted(metrics, "grpc", method) as call:
            yield call
            if not context.is_active():  # nobody gets the answer
                call.code = "CANCELLED"
        return
    except Exception as error:
        name, message = status_codes.describe(error)
    context.abort(_GRPC_CODES[name], message)
