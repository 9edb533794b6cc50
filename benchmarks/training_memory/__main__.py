"""Memory of a training whose dictionary is repeated ten times.

    python -m benchmarks.training_memory [--json FILE]

Trains the demo's teacher for some updates by the code of the Trainer component,
on the CMU dictionary and on the same ten times over: with the stream of batches
that the component reads, and with the simple way, the whole split in arrays.
Each training has a process of its own; a figure is the median of the rounds.
Peaks are those of the whole process, TensorFlow and model included; speeds are
per second of processor time, so that a busy machine changes them little.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.shared import environment
from benchmarks.shared.report import Report
from benchmarks.training_memory.claims import READERS
from benchmarks.training_memory.claims import TIMES
from benchmarks.training_memory.claims import Figures
from benchmarks.training_memory.claims import add_claims
from benchmarks.training_memory.files import write_examples

STATE = pathlib.Path("build/benchmarks/training_memory")
_PROGRAM = "benchmarks.training_memory.program"
_SECONDS = 3600


def measure(folder: pathlib.Path, rounds: int, steps: int) -> Figures:
    """Runs every process `rounds` times, by turns.

    Args:
        folder: of `write_examples`.
        rounds: processes of a kind.
        steps: updates of a training, and batches of a reading.
    """
    figures = collections.defaultdict(list)
    for _ in range(rounds):
        for what in ("train", "read"):
            for times in TIMES:
                for reader in READERS:
                    command = [sys.executable, "-m", _PROGRAM]
                    command += [what, reader, folder, times, steps]
                    said = environment.run(command, os.environ, _SECONDS)
                    found = json.loads(said.splitlines()[-1])
                    figures[what, reader, times].append(found)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_memory"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    options = parser.parse_args(arguments)
    for times in TIMES:
        write_examples(STATE, times)
    figures = measure(STATE.resolve(), options.rounds, options.steps)
    report = Report("Training on a dictionary that is repeated ten times")
    add_claims(report, figures)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
