"""Steps to the dense model's loss: experts against FLOP-matched dense.

    python -m benchmarks.switch_pretraining [--seeds 0 1 2] [--json FILE]

Fills in corrupted spans of the State of the Union addresses, byte by byte. A
dense model is trained for a fixed number of steps; then Switch with 4, 16 and
64 experts, and expert choice with 64, under the same schedule, until they have
the dense model's final held-out loss. Each finished run is kept in `--state`,
and of an unfinished one its last evaluations: an interrupted benchmark reports
what it has, and one that was killed goes on where it was, with the same losses.
Each run computes on one core; start it twice with different `--seeds` to use
two, and once more to report on all. Twelve minutes on one quiet core.

The tokens of a batch (256 rows, 10 corrupted bytes each) are one group of the
router: 40 tokens an expert at 64 experts. The learning rate was tuned on the
dense model (0.005, 0.01, 0.02; 1,000 steps of seed 0: 2.416, 2.392, 2.388).
The published figure is 7.5 times fewer steps (arXiv:2101.03961), of models of
twelve layers.

What decides the ratio is what the dense model lacks. In one block of 16 hidden
units that is capacity, and it soon learns slowly; in two blocks attention
still finds more, and the ratio at 64 experts is 1.7 at 700 steps (expert
choice: 2.1) and grows with the budget: each doubling takes 0.06 nats off the
dense loss and 0.09 off that of Switch.

What helped most: a head of its own that starts from the frequencies of bytes.
Without it, one block learned nothing but these frequencies in 200 steps, and
two blocks (64 rows, 2,500 steps) gave Switch no gain at all (0.83).

What did not help, each tried once, for some hundred steps: wider networks (128
units for 16: the dense model is then too good to be caught so early); batches
of 64 rows (ten tokens an expert: too noisy); Adafactor for Adam (better for
both, most for the dense model); a fixed router; a tenth of the balancing loss;
experts in the last block alone. What does not learn at all in such a time: an
encoder-decoder, or pieces for bytes; and attention that must find the
neighbouring positions by itself.
"""

# First: TensorFlow is then imported without its chatter.
import pipelines  # noqa: F401

# isort: split
import argparse
import dataclasses
import hashlib
import json
import pathlib
import statistics
import sys
from collections.abc import Sequence

import tensorflow as tf
from rich.console import Console

from benchmarks.shared.report import RESULTS
from benchmarks.switch_pretraining import corpus as corpora
from benchmarks.switch_pretraining import records
from benchmarks.switch_pretraining.claims import DENSE
from benchmarks.switch_pretraining.claims import LABELS
from benchmarks.switch_pretraining.claims import LENGTH
from benchmarks.switch_pretraining.claims import ORDER
from benchmarks.switch_pretraining.claims import SIZES
from benchmarks.switch_pretraining.claims import VARIANTS
from benchmarks.switch_pretraining.claims import make_report
from benchmarks.switch_pretraining.picture import plot
from benchmarks.switch_pretraining.run import Schedule
from benchmarks.switch_pretraining.run import train


def settings_digest(schedule: Schedule) -> str:
    """Returns a hash that runs of the same settings share."""
    settings = {
        "length": LENGTH,
        "sizes": dataclasses.asdict(SIZES),
        "schedule": dataclasses.asdict(schedule),
    }
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def train_missing(
    state: pathlib.Path,
    schedule: Schedule,
    seeds: Sequence[int],
    console: Console,
) -> None:
    """Trains whatever is not kept yet; seed by seed, the dense model first."""
    archive = corpora.fetch(state.parent)
    corpus = corpora.make_corpus(corpora.read_speeches(archive), LENGTH)
    for seed in seeds:
        target = None
        for name in ORDER:
            variant = VARIANTS[name]
            record = records.read(state, variant.name, seed)
            if record is None:
                console.print(f"{LABELS[variant.name]}, seed {seed}")
                record = train(
                    corpus,
                    SIZES,
                    variant,
                    schedule,
                    seed,
                    state,
                    target,
                    lambda point: console.print(
                        f"  step {point.step:>5,}: {point.loss:.4f}, "
                        f"{point.seconds:.0f} s"
                    ),
                )
            if variant.name == DENSE:
                target = record.final.loss


def main() -> int:
    """Trains what is missing, then reports on all that there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=Schedule().steps)
    parser.add_argument(
        "--report", action="store_true", help="train nothing; report"
    )
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "switch_pretraining.json"
    )
    parser.add_argument(
        "--state",
        type=pathlib.Path,
        default=pathlib.Path("build/switch_pretraining"),
    )
    options = parser.parse_args()
    # The runs are too small to gain by a second core.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    console = Console()
    schedule = Schedule(steps=options.steps)
    state = options.state / settings_digest(schedule)
    try:
        if not options.report:
            train_missing(state, schedule, options.seeds, console)
    except KeyboardInterrupt:
        console.print("Interrupted: this is what there is so far.")
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
    runs = records.read_all(state, list(VARIANTS), options.seeds)
    report = make_report(runs, schedule)
    if runs[DENSE]:
        target = statistics.fmean(run.final.loss for run in runs[DENSE])
        plot(runs, LABELS, target, RESULTS / "switch_pretraining.png")
    curves = [dataclasses.asdict(run) for each in runs.values() for run in each]
    (RESULTS / "switch_pretraining_curves.json").write_text(
        json.dumps(curves) + "\n"
    )
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
