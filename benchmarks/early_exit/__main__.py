"""Early exits on the CMU dictionary: certified, timed, and checked.

    python -m benchmarks.early_exit [--json FILE]

Needs the trained models of `python -m benchmarks.early_exit.train` (an hour),
and trains what is missing. Then some twenty minutes:

- **certified**: a threshold for at most 0.02 phoneme error above the full model
  at a confidence of 95 %, calibrated on the calibration split; depth, error
  rates and speed of the exported model on the test split, beside the model cut
  at its mean depth, and a model of three layers trained alike;
- **validity**: how often calibrations on draws from a fixed pool certify a
  threshold whose risk on the whole pool is too great;
- **mechanism**: what skipped layers save, with exits forced on random weights;
- **self-speculative**: that its answers are those of full greedy decoding.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import tensorflow as tf

from benchmarks.early_exit import certified
from benchmarks.early_exit import pictures
from benchmarks.early_exit import train
from benchmarks.early_exit.claims import report_mechanism
from benchmarks.early_exit.claims import report_validity
from benchmarks.early_exit.lossless import check_self_speculation
from benchmarks.shared.dictionary import load_splits
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report


def measure_mechanism(rounds: int, tokens: int) -> dict:
    """Times forced exits in a process of their own: one thread, cold."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "mechanism.json"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.early_exit.mechanism",
                f"--rounds={rounds}",
                f"--tokens={tokens}",
                str(path),
            ],
            check=True,
        )
        return json.loads(path.read_text())


def main() -> int:
    """Measures all of it, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "early_exit.json"
    )
    parser.add_argument("--steps", type=int, default=train.STEPS)
    parser.add_argument("--state", type=pathlib.Path, default=train.STATE)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    # A decoder's operations are too small for two threads: they would hand
    # them to and fro, and take twice as long.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    splits = load_splits()
    variants = train.make_variants(options.steps, options.state)
    train.train(variants, splits)
    report = Report("Early exit on the CMU dictionary, test split")

    pool = certified.calibrate_on(
        variants["exits"].model, splits["calibration"]
    )
    certified.report_certified(report, pool, variants, splits["test"])
    report_validity(report, pool.losses)
    check_self_speculation(report, variants["exits"].model, splits["test"])
    report_mechanism(report, measure_mechanism(options.rounds, options.tokens))
    report.add_figures(
        {"policy": json.dumps(dataclasses.asdict(certified.POLICY))}
    )
    pictures.draw(report.figures, variants["exits"].model, RESULTS)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
