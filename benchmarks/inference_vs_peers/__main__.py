"""Answers from one checkpoint, by us and by those who wrote it.

```
python -m benchmarks.inference_vs_peers [--json FILE] [--remove]
```

Random weights of the sizes of `google/switch-base-8` (`e8`), of the same widths
with 2 + 2 layers and 64 experts (`e64`), and of T5-base, made by `transformers`
from a seed and kept in `build/inference_vs_peers` (10 GB) until `--remove`.
Sources of 64 tokens, 64 tokens emitted whatever they are, float32, greedily, on
the processor: ours by `SwitchTransformer.generate`, theirs by
`transformers.generate` on PyTorch and by CTranslate2, which has no experts and
answers for T5 alone. No expert is full in either engine. About twelve minutes
on two quiet cores; beside other work the peers' threads wait for each other.

Each engine runs in a process of its own, one after the other, so that no two
models are in memory at once; with all threads in turns forwards and backwards,
and once with one. Each is given the time of its better number of threads.
Ours is not timed unless its tokens are the peer's, but for those that
part where two logits lie within 1e-4, which are counted.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.inference_vs_peers.cases import CASES
from benchmarks.inference_vs_peers.cases import Case
from benchmarks.inference_vs_peers.cases import small
from benchmarks.inference_vs_peers.claims import Told
from benchmarks.inference_vs_peers.claims import add_agreement
from benchmarks.inference_vs_peers.claims import add_case
from benchmarks.inference_vs_peers.task import CONVERTED
from benchmarks.inference_vs_peers.task import Task
from benchmarks.shared import environment
from benchmarks.shared.report import Report

_FOLDER = environment.ROOT / "build" / "inference_vs_peers"
_ROOM = "benchmarks.inference_vs_peers"
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
_SECONDS = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference_vs_peers"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=sorted({len(os.sched_getaffinity(0)), 1}, reverse=True),
    )
    parser.add_argument("--cases", nargs="+", help="names, for all of them")
    parser.add_argument(
        "--small", action="store_true", help="tiny models, to see that it runs"
    )
    parser.add_argument(
        "--remove", action="store_true", help="the weights, in the end"
    )
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    options = parser.parse_args(arguments)
    report = Report("Answers from one checkpoint, by us and by others")
    ours = []
    for case in CASES:
        if options.cases and case.name not in options.cases:
            continue
        if options.small:
            case = small(case)
        told, theirs = _time(case, options)
        add_case(report, case, told, theirs)
        ours.append(told)
    add_agreement(report, ours)
    if options.remove:
        shutil.rmtree(_FOLDER)
    return report.finish(options.json)


def _time(case: Case, options: argparse.Namespace) -> tuple[Told, Told]:
    """Runs both engines in turns; returns what ours and theirs told."""
    model = _make_checkpoint(case)
    answers = model / "answers"
    for kept in model.glob("answers_b*.npz"):
        kept.unlink()
    ours: Told = {}
    theirs: Told = {}
    engines = [
        (theirs, environment.make(case.peer), f"{_ROOM}.time_{case.peer}"),
        (ours, pathlib.Path(sys.executable), f"{_ROOM}.time_ours"),
    ]
    for threads in options.threads:
        task = Task(model, answers, threads, options.rounds, case.batches)
        # One thread is slow, and seldom what an engine does best.
        turns = options.turns if threads == max(options.threads) else 1
        for turn in range(turns):
            for told, python, module in engines[:: 1 if turn % 2 == 0 else -1]:
                told.setdefault(threads, []).append(_run(python, module, task))
    return ours, theirs


def _run(python: pathlib.Path, module: str, task: Task) -> dict[str, Any]:
    # Libraries that count the cores by themselves are told, too.
    threads = {"OMP_NUM_THREADS": str(task.threads)}
    said = environment.run(
        [python, "-m", module, *task.arguments()],
        {**os.environ, **_QUIET, **threads},
        _SECONDS,
    )
    return {"tokens": task.tokens, **json.loads(said.splitlines()[-1])}


def _make_checkpoint(case: Case) -> pathlib.Path:
    """Returns the folder of the weights, which are made if they are not there.

    With CTranslate2's form of them where it is the peer.
    """
    _FOLDER.mkdir(parents=True, exist_ok=True)
    python = environment.make("transformers")
    folder = _FOLDER / case.name
    if not folder.exists():
        environment.run(
            [python, "-m", f"{_ROOM}.make_checkpoint", folder]
            + [case.kind, json.dumps(case.config)],
            {**os.environ, **_QUIET},
        )
    if case.peer == "ctranslate2" and not (folder / CONVERTED).exists():
        # Their converter is part of their package, and wants PyTorch.
        theirs = environment.make(case.peer).parents[1]
        packages = next(theirs.glob("lib/python*/site-packages"))
        environment.run(
            [python, "-m", f"{_ROOM}.convert_ctranslate2"]
            + [folder, folder / CONVERTED],
            {
                **os.environ,
                **_QUIET,
                "PYTHONPATH": f"{environment.ROOT}:{packages}",
            },
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
