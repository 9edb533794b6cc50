"""Processor time of searches that answer many queries at once."""

import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from benchmarks.shared.alternating import seconds_in_turns

_ROUNDS = 7


def milliseconds_a_query(
    searches: Mapping[str, Callable[[], Any]], count: int
) -> dict[str, float]:
    """Returns the median processor time of a query, in turns."""
    times = seconds_in_turns(searches, _ROUNDS, 1, clock=time.process_time)
    return {
        name: 1000 * statistics.median(each) / count
        for name, each in times.items()
    }
