"""What each layer is timed on, ours and the peers' alike.

Runs in every peer's environment, so it needs NumPy and nothing else.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from benchmarks.shared.alternating import seconds_in_turns

CAPACITY_FACTOR = 1.25
DENSE = "dense"


class Task(NamedTuple):
    """Sizes of one measurement.

    Attributes:
        experts: number of experts; a dense layer of `hidden_dim` computes as
            much for a token as one of them.
        dim: model dimension.
        hidden_dim: inner size of an expert.
        batch: sequences.
        length: tokens of a sequence.
        rounds: calls of each function that count.
        threads: threads of the framework.
    """

    experts: int
    dim: int = 512
    hidden_dim: int = 2048
    batch: int = 8
    length: int = 512
    rounds: int = 11
    threads: int = 1

    @property
    def capacity_of_sequence(self) -> int:
        """Slots of an expert where one sequence routes on its own."""
        return max(round(CAPACITY_FACTOR * self.length / self.experts), 1)

    def tokens(self) -> np.ndarray:
        """Returns float32 `(batch, length, dim)`, equal for all peers."""
        return self._normal(0, (self.batch, self.length, self.dim))

    def output_gradient(self) -> np.ndarray:
        """Returns the gradient that flows back into the layer's output."""
        return self._normal(1, (self.batch, self.length, self.dim))

    def router_kernel(self) -> np.ndarray:
        """Returns float32 `(dim, experts)`: with it all peers route alike."""
        return 0.02 * self._normal(2, (self.dim, self.experts))

    def _normal(self, seed: int, shape: tuple[int, ...]) -> np.ndarray:
        generator = np.random.default_rng(seed)
        return generator.standard_normal(shape, dtype="float32")


def read_task() -> Task:
    """Takes the task from the command line."""
    parser = argparse.ArgumentParser()
    for name, default in Task._field_defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--experts", type=int, required=True)
    return Task(**vars(parser.parse_args()))


def over_dense(
    functions: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, float]:
    """Times functions against the one named `DENSE`, by processor time.

    Processor time of the whole process: a busy neighbour takes less of it
    than of the wall clock.

    Returns:
        For each other name the median over the rounds of the ratio, and for
        `DENSE` its median in milliseconds.
    """
    times = seconds_in_turns(
        functions, rounds, warm_up_rounds=2, clock=time.process_time
    )
    dense = times[DENSE]
    ratios = {
        name: statistics.median(
            one / other for one, other in zip(each, dense, strict=True)
        )
        for name, each in times.items()
        if name != DENSE
    }
    return {DENSE: 1000 * statistics.median(dense), **ratios}


def answer(figures: Mapping[str, Any]) -> None:
    """Hands the figures to whoever started this program."""
    sys.stdout.flush()
    print(json.dumps(figures))
