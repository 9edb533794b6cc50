"""Decoding by XLA beside decoding without: served, in process and over gRPC.

    python -m benchmarks.decoding [--json FILE] [--rounds N]

Random weights: what is timed does not depend on them, since all answers have
the same number of tokens. One thread; all that is compared is timed in turns,
and figures are medians. A few minutes.

- **student**: the demo's, 2 and 2 layers of 128, exported for words of the CMU
  dictionary and answers of at most 10 tokens, a pronunciation's length. The
  signature `compiled` over `serving_default`, by the number of words, each with
  the same answers; what the first request of a shape waits for; a round trip
  over gRPC; two clients beside one.
- **floor**: the products of the student's answer for one word, unrolled, each
  fed by the one before, compiled by XLA as one straight line.
- **exits**: the 8 layers of `benchmarks.early_exit`, exits against none, both
  compiled. The threshold lets as many tokens leave at the first exit as the
  certified one does there.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import tensorflow as tf

from benchmarks.decoding import exits
from benchmarks.decoding import floor
from benchmarks.decoding import served
from benchmarks.decoding import student
from benchmarks.shared.report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument(
        "--rounds", type=int, default=400, help="requests of each timing"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of clients")
    options = parser.parse_args(arguments)
    # A decoder's operations are too small for two threads: they would hand
    # them to and fro, and take twice as long.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    report = Report("Decoding compiled by XLA")
    model = student.make_student()
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder, "student")
        base.mkdir()
        student.export(model, base / "1")
        served.report_in_process(report, base, options)
        served.report_over_grpc(report, base, options.rounds)
    floor.report_floor(report, model, options.rounds)
    exits.report_exits(report, options.rounds)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
