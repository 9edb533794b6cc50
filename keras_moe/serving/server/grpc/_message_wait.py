"""Waits for the message of a call, but not for ever."""

import threading
import time
from collections.abc import Iterator

import grpc

_LOOK_SECONDS = 0.5
# Whom the server has waited for longer makes way where too many are waited for.
_PATIENCE_SECONDS = 1.0


class MessageWait:
    """Receives the one message of each call, and ends calls that send none.

    A call takes a thread when it begins. Without this, clients that begin
    calls and say no more would take them all.

    Args:
        seconds: within which the message must have come.
        most: calls that are waited for at a time; beyond, the oldest is ended.
    """

    def __init__(self, seconds: float, most: int):
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        # The oldest call is the first.
        self._since: dict[grpc.ServicerContext, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._look, name="grpc-message-wait", daemon=True
        )

    def start(self) -> None:
        """Starts to watch, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching."""
        self._stopped.set()

    def receive(
        self, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> bytes | None:
        """Gives the message of a call; `None` if the client ends without one.

        Args:
            messages: gRPC's, of the call.
            context: gRPC's, of the call.

        Raises:
            grpc.RpcError: the call was ended, here or by its client.
        """
        with self._lock:
            self._since[context] = time.monotonic()
            if len(self._since) > self._most:
                self._end_first(_PATIENCE_SECONDS)
        try:
            return next(messages, None)
        finally:
            with self._lock:
                self._since.pop(context, None)

    def _look(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            with self._lock:
                while self._end_first(self._seconds):
                    pass

    def _end_first(self, seconds: float) -> bool:
        """Ends the oldest call if it waits for so long; tells whether."""
        oldest = next(iter(self._since), None)
        if oldest is None or self._since[oldest] > time.monotonic() - seconds:
            return False
        del self._since[oldest]
        # gRPC cancels in threads of its own: nothing is waited for here.
        oldest.cancel()
        return True
