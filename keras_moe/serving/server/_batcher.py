"""Requests that arrive together run together."""

import collections
import logging
import threading
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_moe.serving.protocol._runner import Runner
from keras_moe.serving.protocol._signature import Signature
from keras_moe.validation import check_size

_LOG = logging.getLogger(__name__)


class Batcher:
    """Joins the rows of requests that wait for the same signature.

    A request that finds the model idle runs at once: nobody waits for company.
    Those that arrive while it runs are joined, and run next. The row of an
    answer is what it would be alone, given a model whose rows do not depend on
    each other: only signatures are joined whose inputs and outputs all have a
    row for each example and outputs no size that a neighbour could change; and
    where a batch fails, each of its requests runs alone, so that a bad row
    fails nobody else's.

    Args:
        max_rows: most rows that are joined. A request that has more runs
            alone.
        count: called with the rows of each run.
    """

    def __init__(
        self, max_rows: int, count: Callable[[int], None] = lambda rows: None
    ):
        check_size(max_rows=max_rows)
        self._max_rows = max_rows
        self._count = count
        self._lock = threading.Lock()
        # Requests that wait behind one of their signature that is running.
        self._waiting: dict[tuple, collections.deque[_Request]] = {}

    def submit(
        self,
        runner: Runner,
        signature: Signature,
        inputs: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """Runs a request, perhaps with others.

        Args:
            runner: the session's callable for the signature; requests with
                the same one are joined.
            signature: what it was made for.
            inputs: the arrays that it takes, already checked.

        Returns:
            The arrays of the signature's outputs.

        Raises:
            tf.errors.OpError: the model refuses this request.
        """
        if not signature.has_rows:
            return self._alone(runner, inputs)
        rows = inputs[0].shape[0]
        if any(array.shape[0] != rows for array in inputs):
            return self._alone(runner, inputs)
        # Arrays can be joined if all sizes but their rows are the same.
        key = (runner, *(array.shape[1:] for array in inputs))
        request = _Request(inputs, rows)
        with self._lock:
            waiting = self._waiting.get(key)
            leads = waiting is None
            if waiting is None:
                self._waiting[key] = collections.deque()
            else:
                waiting.append(request)
        if not leads:
            request.woken.wait()
        if request.answer is not None:
            return request.answer
        if request.runs_alone:
            return self._alone(runner, inputs)
        return self._lead(key, runner, request)

    def _alone(
        self, runner: Runner, inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        shape = inputs[0].shape if inputs else ()
        self._count(shape[0] if shape else 1)
        return runner(*inputs)

    def _lead(
        self, key: tuple, runner: Runner, first: "_Request"
    ) -> list[np.ndarray]:
        """Runs a batch that begins with `first`, then lets the next lead."""
        batch = self._take(key, first)
        try:
            if len(batch) == 1:
                return self._alone(runner, first.inputs)
            if not self._run_joined(runner, batch):
                for request in batch:
                    request.runs_alone = True
        finally:
            # An error must wake the requests, too, or they would wait forever.
            for request in batch[1:]:
                request.runs_alone |= request.answer is None
                request.woken.set()
            with self._lock:
                if self._waiting[key]:
                    self._waiting[key].popleft().woken.set()
                else:
                    del self._waiting[key]
        if first.answer is not None:
            return first.answer
        return self._alone(runner, first.inputs)

    def _take(self, key: tuple, first: "_Request") -> list["_Request"]:
        batch, rows = [first], first.rows
        with self._lock:
            waiting = self._waiting[key]
            while waiting and rows + waiting[0].rows <= self._max_rows:
                batch.append(waiting.popleft())
                rows += batch[-1].rows
        return batch

    def _run_joined(self, runner: Runner, batch: list["_Request"]) -> bool:
        """Answers requests by one joined run; tells whether it succeeded."""
        columns = zip(*(request.inputs for request in batch), strict=True)
        joined = [np.concatenate(arrays) for arrays in columns]
        rows = sum(request.rows for request in batch)
        self._count(rows)
        try:
            values = [np.asarray(value) for value in runner(*joined)]
        except tf.errors.OpError as error:
            _LOG.debug("A batch failed; each of it runs alone: %s", error)
            return False
        if any(value.shape[:1] != (rows,) for value in values):
            return False
        begin = 0
        for request in batch:
            end = begin + request.rows
            request.answer = [value[begin:end] for value in values]
            begin = end
        return True


class _Request:
    """A request that waits: to be answered, to run alone, or to lead."""

    def __init__(self, inputs: Sequence[np.ndarray], rows: int):
        self.inputs = inputs
        self.rows = rows
        self.woken = threading.Event()
        self.runs_alone = False
        self.answer: list[np.ndarray] | None = None
