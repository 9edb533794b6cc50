"""Threads that are warm: who works, how many there are, how they end."""

import threading
import time

import pytest

from keras_moe.serving.server.rest._warm_threads import WarmThreads


@pytest.fixture
def threads():
    with WarmThreads("warm-threads-test") as threads:
        yield threads


def running():
    return sum(
        thread.name == "warm-threads-test" for thread in threading.enumerate()
    )


def test_the_one_that_worked_last_works_next(threads):
    barrier = threading.Barrier(8)

    def meet():
        barrier.wait(10)
        return threading.get_ident()

    met = [threads.submit(meet) for _ in range(8)]
    assert len({each.result(10) for each in met}) == 8
    after = [threads.submit(threading.get_ident).result(10) for _ in range(50)]
    assert len(set(after)) == 1
    assert running() == 8


def test_errors_are_handed_on(threads):
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(10)
    assert threads.submit(divmod, 7, 2).result(10) == (3, 1)


def test_the_end(threads, eventually):
    """What is under way is finished, and nothing is waited for."""
    may_end = threading.Event()
    last = threads.submit(may_end.wait, 20)
    assert threads.submit(int).result(10) == 0
    began = time.monotonic()
    threads.shutdown()
    assert time.monotonic() - began < 5
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)
    may_end.set()
    assert last.result(10)
    eventually(lambda: running() == 0)
