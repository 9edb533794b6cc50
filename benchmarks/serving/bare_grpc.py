"""The floor under any Python gRPC server: nothing but the call itself."""

import concurrent.futures
import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import grpc

_METHOD = "/floor/Call"
# Bytes of about the size of a request for one word, and of its answer.
_REQUEST, _ANSWER = b"?" * 100, b"!" * 400


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, function: Callable[[], Any]):
        self._function = function

    def service(self, details):
        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._function()
            return _ANSWER

        return grpc.unary_unary_rpc_method_handler(call)


@contextlib.contextmanager
def behind_bare_grpc(function: Callable[[], Any]) -> Iterator[int]:
    """Runs `function` behind gRPC and nothing more.

    No message is parsed, built or checked on either side.

    Args:
        function: what the server runs.

    Yields:
        The port, on loopback.
    """
    pool = concurrent.futures.ThreadPoolExecutor(4)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers((_Handler(function),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)
        pool.shutdown()


@contextlib.contextmanager
def bare_call(port: int) -> Iterator[Callable[[], bytes]]:
    """Gives a function that calls the port of `behind_bare_grpc`."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(_METHOD)
        yield lambda: call(_REQUEST)
