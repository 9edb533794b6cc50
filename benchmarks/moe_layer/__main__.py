"""Cost of a sparse layer over the dense layer of equal arithmetic.

```
python -m benchmarks.moe_layer [--json FILE] [--skip-peers]
```

Model dimension 512, hidden 2048, 8 sequences of 512 tokens, capacity factor
1.25, float32, one thread. Every figure is a ratio: processor time of the
layer over that of its own framework's dense layer, in turns in one process,
median over the rounds. Each number of experts runs in a process of its own,
each peer in an environment of its own, made under `build/peers` when it is
first needed (7 GB). A quarter of an hour on a quiet machine.

What bounds 128 experts: each sees 32 tokens. Products of so few rows, run by
hand with nothing around them, reach 52 to 92 GFLOP/s here where those of 4,096
rows reach 98 to 112, which alone makes 1.5 of the dense layer's time, or about
1.3 with the large matrix first in the products for the tokens' gradients (what
`ragged` does). Reading 1 GB of kernels and writing 1 GB of gradients adds
what the floors in the table say.

The outputs are returned beside the gradients. A dense layer's gradients do not
need its last product, and TensorFlow leaves out what nobody asks for: compared
so, every layer that weighs its outputs looked 1.2 times worse than it is.

What did not help, in trials: XLA (slower on a CPU, at 32 experts by half);
einsums instead of batched products (the kernels' gradients are transposed); a
slot table by sorting instead of counting (no difference); a gradient of our own
for the gathers (on a CPU no difference; it is there for TPUs and DTensor).
Ragged rows pay for shapes never seen before, for which the library under
TensorFlow compiles new products (`ragged_fresh_tokens_over_dense_*`); long
queues are rounded up to a multiple for that.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.moe_layer import environment
from benchmarks.moe_layer.task import DENSE
from benchmarks.moe_layer.task import Task
from benchmarks.shared.report import Report

EXPERTS = (8, 32, 128)
_OURS = "benchmarks.moe_layer.time_sparse_moe"
_BOTH = "forward_backward"
_TARGETS = {
    "gather": {8: 1.35, 32: 1.45, 128: 1.9},
    "ragged": {8: 1.10, 32: 1.20, 128: 1.6},
}
_OVER_TRANSFORMERS = 1.1
_SPEEDUP_OVER_TF_MODELS = 2.5
# The group size that the layer's documentation recommends.
_RECOMMENDED = "group_4096"

Figures = dict[int, dict[str, Any]]


def add_ours(report: Report, ours: Figures) -> None:
    """Claims the cost of our executors, and says what bounds it."""
    for experts, figures in ours.items():
        forward, both = figures["forward"], figures[_BOTH]
        for name, targets in _TARGETS.items():
            report.add_claim(
                f"{name}_over_dense_e{experts}",
                both[name],
                targets[experts],
                "<=",
            )
        report.add_figures(
            {
                f"dense_ms_e{experts}": both[DENSE],
                f"dense_forward_ms_e{experts}": forward[DENSE],
                f"gather_forward_over_dense_e{experts}": forward["gather"],
                f"ragged_forward_over_dense_e{experts}": forward["ragged"],
                # One-hot products are quadratic in the group: 512 tokens.
                f"einsum_512_over_dense_e{experts}": both["einsum_sequences"],
                f"ragged_fresh_tokens_over_dense_e{experts}": both[
                    "ragged_fresh"
                ],
                f"kept_e{experts}": figures["kept_gather"],
            }
        )
    experts = max(ours)
    traffic = ours[experts]["traffic"]
    # Forward reads each kernel, backward reads it again and writes its
    # gradient. At best all of it hides behind the products.
    moved = 2 * traffic["read"] + traffic["write"]
    report.add_figures(
        {
            f"floor_e{experts}_read_weights_over_dense": traffic["read"],
            f"floor_e{experts}_write_gradients_over_dense": traffic["write"],
            f"floor_e{experts}_hidden_traffic": max(1.0, moved),
            f"floor_e{experts}_added_traffic": 1.0 + moved,
        }
    )


def add_tf_models(report: Report, ours: Figures, theirs: Figures) -> None:
    """Claims the speed-up over the TensorFlow Model Garden's layer."""
    for experts, figures in theirs.items():
        groups = dict(figures[_BOTH])
        del groups[DENSE]
        best = min(groups, key=groups.__getitem__)
        mine = _best(ours[experts], "gather", "ragged")
        speedup = groups[_RECOMMENDED] / mine
        name = f"speedup_over_tf_models_e{experts}"
        if experts == min(theirs):
            report.add_claim(name, speedup, _SPEEDUP_OVER_TF_MODELS, ">=")
        else:
            report.add_figures({name: speedup})
        report.add_figures(
            {
                f"{name}_at_one_sequence_a_group": groups["group_512"] / mine,
                f"{name}_at_its_best_group": groups[best] / mine,
                f"tf_models_best_group_e{experts}": best,
                f"tf_models_over_dense_e{experts}": groups[_RECOMMENDED],
            }
        )


def add_transformers(report: Report, ours: Figures, theirs: Figures) -> None:
    """Claims that we are no slower than transformers, dense for dense."""
    for experts, figures in theirs.items():
        mine = _best(ours[experts], "gather_sequences", "ragged_sequences")
        over_dense = figures[_BOTH]["layer"]
        report.add_claim(
            f"over_transformers_e{experts}",
            mine / over_dense,
            _OVER_TRANSFORMERS,
            "<=",
        )
        report.add_figures(
            {
                f"transformers_over_dense_e{experts}": over_dense,
                f"transformers_dense_ms_e{experts}": figures[_BOTH][DENSE],
                f"transformers_kept_e{experts}": figures["kept"],
                f"kept_by_sequence_e{experts}": ours[experts][
                    "kept_gather_sequences"
                ],
            }
        )


def _best(figures: dict[str, Any], *names: str) -> float:
    return min(figures[_BOTH][name] for name in names)


def _time(python: pathlib.Path | str, module: str, rounds: int) -> Figures:
    return {
        experts: environment.time_layer(
            python, module, Task(experts, rounds=rounds)
        )
        for experts in EXPERTS
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moe_layer")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    options = parser.parse_args(arguments)
    report = Report("A sparse layer over the dense one of equal arithmetic")
    ours = _time(sys.executable, _OURS, options.rounds)
    add_ours(report, ours)
    if not options.skip_peers:
        for name, add in (
            ("tf_models", add_tf_models),
            ("transformers", add_transformers),
        ):
            module = f"benchmarks.moe_layer.time_{name}"
            python = environment.make(name)
            add(report, ours, _time(python, module, options.rounds))
    report.show()
    if options.json:
        report.write(options.json)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
