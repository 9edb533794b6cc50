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
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.moe_layer.claims import Figures
from benchmarks.moe_layer.claims import add_ours
from benchmarks.moe_layer.claims import add_tf_models
from benchmarks.moe_layer.claims import add_transformers
from benchmarks.moe_layer.task import Task
from benchmarks.shared import environment
from benchmarks.shared.report import Report

EXPERTS = (8, 32, 128)
_OURS = "benchmarks.moe_layer.time_sparse_moe"
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
_TIMING_SECONDS = 900


def _time(python: pathlib.Path | str, module: str, rounds: int) -> Figures:
    """Runs a timing program, a process for each number of experts."""
    return {
        experts: _time_layer(python, module, Task(experts, rounds=rounds))
        for experts in EXPERTS
    }


def _time_layer(
    python: pathlib.Path | str, module: str, task: Task
) -> dict[str, Any]:
    command: list[Any] = [python, "-m", module]
    for name, value in task._asdict().items():
        command += [f"--{name}", value]
    said = environment.run(command, {**os.environ, **_QUIET}, _TIMING_SECONDS)
    return json.loads(said.splitlines()[-1])


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
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
