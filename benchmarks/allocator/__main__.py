"""A training step whose allocator keeps large buffers, beside a plain one.

    python -m benchmarks.allocator [--json FILE] [--rounds N] [--steps N]

GNU's allocator may map a large buffer anew each time that it is asked for one,
and every page faults; it can be told to keep them (`GLIBC_TUNABLES`). Each
process trains the demo's teacher on random words; kinds take turns, and figures
are medians over processes. A few minutes.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import sys
from collections.abc import Sequence

from benchmarks.shared import environment
from benchmarks.shared.report import Report

TUNABLES = (
    "glibc.malloc.mmap_threshold=1073741824:"
    "glibc.malloc.trim_threshold=4294967296"
)
KINDS = {"plain": {}, "tuned": {"GLIBC_TUNABLES": TUNABLES}}
_PROGRAM = "benchmarks.allocator.program"
_TARGET = 0.95
_SECONDS = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when the claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocator")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    options = parser.parse_args(arguments)
    found = collections.defaultdict(list)
    for number in range(options.rounds):
        for kind in list(KINDS)[:: 1 if number % 2 else -1]:
            said = environment.run(
                [sys.executable, "-m", _PROGRAM, options.steps],
                {**os.environ, **KINDS[kind]},
                _SECONDS,
            )
            figures = json.loads(said.splitlines()[-1])
            for name, value in figures.items():
                found[f"{kind}_{name}"].append(value)
    medians = {name: statistics.median(found[name]) for name in sorted(found)}
    report = Report("A training step, and the allocator told to keep buffers")
    report.add_figures(medians)
    ratio = medians["tuned_step_ms"] / medians["plain_step_ms"]
    report.add_claim("step_with_tuned_allocator", ratio, _TARGET, "<=")
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
