"""Threads of which the one that worked last works next."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any

_Work = tuple[concurrent.futures.Future, Callable, tuple, dict]


class WarmThreads(concurrent.futures.Executor):
    """An executor that never queues, and prefers the thread that is warm.

    `concurrent.futures.ThreadPoolExecutor` takes its threads in turn: with many
    of them each request finds a thread whose caches and memory are cold. Nor
    does it start more than it was told, and threads that find the next request
    queued, and so never rest, overtake those of gRPC that wait for the same
    model.

    There are as many threads as calls were ever under way; limit those.

    Args:
        name: what the threads' names begin with.

    Example:

    >>> from keras_moe.serving.server.rest._warm_threads import WarmThreads
    >>> with WarmThreads("example") as threads:
    ...     threads.submit(pow, 2, 5).result()
    32
    """

    def __init__(self, name: str):
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[_Work | None]] = []
        self._is_shut = False

    def submit(
        self, function: Callable, /, *arguments: Any, **keywords: Any
    ) -> concurrent.futures.Future:
        """Calls a function in a thread.

        Args:
            function: what is called.
            *arguments: its arguments.
            **keywords: its keyword arguments.

        Returns:
            The future of its result.

        Raises:
            RuntimeError: the threads were shut down, or no more can be started.
        """
        future: concurrent.futures.Future = concurrent.futures.Future()
        with self._lock:
            if self._is_shut:
                raise RuntimeError("The threads were shut down.")
            inbox = self._idle.pop() if self._idle else self._start()
        inbox.put((future, function, arguments, keywords))
        return future

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False
    ) -> None:
        """Ends the threads, each after what it does; waits for none.

        Args:
            wait: is not heeded: a model that hangs must not keep a process.
            cancel_futures: is not heeded: none is queued.
        """
        with self._lock:
            self._is_shut = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _start(self) -> queue.SimpleQueue:
        inbox: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        threading.Thread(
            target=self._serve, args=[inbox], name=self._name, daemon=True
        ).start()
        return inbox

    def _serve(self, inbox: queue.SimpleQueue) -> None:
        goes_on = True
        while goes_on and (work := inbox.get()) is not None:
            future, function, arguments, keywords = work
            result = error = None
            if future.set_running_or_notify_cancel():
                try:
                    result = function(*arguments, **keywords)
                except BaseException as caught:
                    error = caught
            # Before the result is told of, or the next call would find this
            # thread still busy.
            with self._lock:
                goes_on = not self._is_shut
                if goes_on:
                    self._idle.append(inbox)
            if not future.cancelled():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
            # A body may be large, and the next call far away.
            del work, future, function, arguments, keywords, result, error
