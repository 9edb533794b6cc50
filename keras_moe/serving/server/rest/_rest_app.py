"""TensorFlow Serving's REST API: the Starlette application."""

import asyncio
import contextlib
import http
import json
import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from starlette.requests import ClientDisconnect
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Match
from starlette.routing import Router
from starlette.types import Receive
from starlette.types import Scope
from starlette.types import Send

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._call import counted
from keras_moe.serving.server._gate import Gate
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.server.rest import _page_handler as page_handler
from keras_moe.serving.server.rest import _rest_handler as rest_handler
from keras_moe.serving.server.rest._page_handler import PageHandler
from keras_moe.serving.server.rest._rest_handler import RestHandler
from keras_moe.serving.server.rest._warm_threads import WarmThreads

# Bodies above this size are parsed and run two at a time.
_LARGE_BYTES, _LARGE_AT_A_TIME = 1 << 20, 2
_Endpoint = Callable[[Call, re.Match[str], bytes], Response]


class RestApp:
    """An ASGI application; the loop that runs it is never kept waiting.

    Who may ask, and whether the body may be sent, is said before any of it is
    read.

    Args:
        api: answers what is asked.
        metrics: counts the requests, and is exposed.
        gate: says who may ask.
        max_body_bytes: largest body to read.
        max_rows: most examples of a request.
    """

    def __init__(
        self,
        api: ModelApi,
        metrics: ServerMetrics,
        gate: Gate,
        max_body_bytes: int,
        max_rows: int,
    ):
        self._metrics = metrics
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._handler = RestHandler(api, metrics, max_body_bytes, max_rows)
        self._large = asyncio.Semaphore(_LARGE_AT_A_TIME)
        # As many as requests are under way, and so as connections at most.
        self._threads = WarmThreads("rest-request")
        handler, page, get = self._handler, PageHandler(api), ("GET", "HEAD")
        table: list[tuple[tuple[str, ...], re.Pattern[str], _Endpoint]] = [
            (("POST",), rest_handler.POST, handler.predict),
            (get, rest_handler.METRICS, handler.expose),
            (get, rest_handler.GET, handler.describe),
            (get, page_handler.FILES, page.show),
            (get, page_handler.MODEL, page.describe),
            (get, page_handler.PICTURE, page.picture),
            (("OPTIONS",), rest_handler.ANYTHING, handler.allow),
        ]
        self._router = Router(
            [
                _Route(methods, pattern, endpoint, self._answer)
                for methods, pattern, endpoint in table
            ],
            redirect_slashes=False,
            default=self._answer,
        )

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answers a request, as ASGI has it."""
        await self._router(scope, receive, send)

    def stop(self) -> None:
        """Ends the threads, or lets them end with what they do."""
        self._threads.shutdown()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(scope, receive)
        except (ConnectionError, asyncio.CancelledError):
            return  # the client, or this server, has gone
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        headers = {
            name: value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            with counted(self._metrics, "rest") as call:
                if scope.get("path_pattern") is not page_handler.FILES:
                    self._check_gate(call, headers)
                self._check_length(call, headers)
                self._check_crowd(call, scope)
                body = await _read_body(scope, receive)
                encoding = headers.get(b"content-encoding", "").lower()
                if encoding not in ("", "identity"):
                    body = await self._run(self._handler.unpack, body, encoding)
                return await self._dispatch(call, scope, body)
        except _Refusal as caught:
            return caught.response
        except ConnectionError:
            raise
        except Exception as error:
            name, message = status_codes.describe(error)
            return _error(status_codes.http_status(name), message)

    async def _dispatch(
        self, call: Call, scope: Scope, body: bytes
    ) -> Response:
        method = scope["method"]
        if "endpoint" not in scope:
            if method not in ("GET", "HEAD", "POST"):
                call.code = "UNIMPLEMENTED"
                return _error(501, f"Unsupported method ({method!r})")
            raise status_codes.invalid_argument(
                f"Malformed request: {method} {scope['raw_path'].decode()}"
            )
        is_large = method == "POST" and len(body) > _LARGE_BYTES
        async with self._large if is_large else contextlib.nullcontext():
            return await self._run(
                scope["endpoint"], call, scope["path_params"], body
            )

    async def _run(self, function: Callable, *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    def _check_gate(self, call: Call, headers: dict[bytes, str]) -> None:
        try:
            self._gate.check(headers.get(b"authorization"))
        except tf.errors.OpError as error:
            # A stranger's body is not even read.
            call.code, message = status_codes.describe(error)
            status = status_codes.http_status(call.code)
            challenge = {}
            if status == http.HTTPStatus.UNAUTHORIZED:
                challenge["WWW-Authenticate"] = "Bearer"
            raise _Refusal(status, message, challenge) from error

    def _check_length(self, call: Call, headers: dict[bytes, str]) -> None:
        # A client that waits for "100 Continue" need not send a body that
        # would be refused.
        if b"transfer-encoding" in headers:
            call.code = "INVALID_ARGUMENT"
            raise _Refusal(411, "The body must come with a Content-Length.", {})
        length = int(headers.get(b"content-length", "0"))
        if length > self._max_body_bytes:
            call.code = "RESOURCE_EXHAUSTED"
            raise _Refusal(
                413,
                f"The body must have at most {self._max_body_bytes} bytes. "
                f"Received: {length}",
                {},
            )

    def _check_crowd(self, call: Call, scope: Scope) -> None:
        if scope["method"] == "POST" and scope["state"]["is_crowded"]:
            # The connection is one of those that are kept for what is cheap.
            call.code = "UNAVAILABLE"
            raise _Refusal(
                503, "There are too many connections.", {"Retry-After": "1"}
            )


class _Route(BaseRoute):
    """A route by the path as it came: an escaped slash is no slash."""

    def __init__(
        self,
        methods: tuple[str, ...],
        pattern: re.Pattern[str],
        endpoint: _Endpoint,
        app: Callable,
    ):
        self._methods = methods
        self._pattern = pattern
        self._endpoint = endpoint
        self._app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["method"] in self._methods:
            match = self._pattern.fullmatch(scope["raw_path"].decode())
            if match:
                found = {
                    "endpoint": self._endpoint,
                    "path_params": match,
                    "path_pattern": self._pattern,
                }
                return Match.FULL, found
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Refusal(Exception):
    """A body that is not even read: the connection ends with the answer."""

    def __init__(self, status: int, text: str, headers: dict[str, str]):
        super().__init__(status)
        self.response = _error(status, text, {**headers, "Connection": "close"})


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    try:
        return await Request(scope, receive).body()
    except ClientDisconnect as error:
        raise ConnectionError("The client closed in a body.") from error


def _error(
    status: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    body = json.dumps({"error": text}).encode()
    return Response(body, status, headers, rest_handler.JSON)
