"""Timing of several things in turns, so that a busy machine slows all alike."""

import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any


def median_milliseconds(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up_rounds: int = 20,
) -> dict[str, float]:
    """Gives the median time of a call of each function.

    Args:
        functions: name to what is to be timed.
        rounds: calls of each that count.
        warm_up_rounds: rounds before that, which do not count.

    Returns:
        Name to milliseconds.
    """
    times = seconds_in_turns(functions, rounds, warm_up_rounds)
    return {
        name: 1000 * statistics.median(each) for name, each in times.items()
    }


def seconds_in_turns(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up_rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times each function once a round.

    Args:
        functions: name to what is to be timed. They are called forwards and
            backwards by turns, as what runs first leaves the caches warm or
            cold for the next.
        rounds: calls of each that count.
        warm_up_rounds: rounds before that, which do not count.
        clock: what tells the seconds; `time.process_time` leaves out what
            other processes take.

    Returns:
        Name to the seconds of each round.
    """
    if rounds < 1:
        raise ValueError(
            f"`rounds` must be at least 1. Received: rounds={rounds}"
        )
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(-warm_up_rounds, rounds):
        order = list(functions.items())
        for name, function in order if index % 2 == 0 else reversed(order):
            start = clock()
            function()
            elapsed = clock() - start
            if index >= 0:
                seconds[name].append(elapsed)
    return seconds
