"""Every smaller system of the article, beside the simple thing it replaces.

```
python -m benchmarks.article [--json FILE] [--rounds 7]
```

One table, a row a system: what it came to, what its baseline came to on the
same data, and whether that is a gain. Settings of both are chosen on
validation data, by seeds that are not reported; reported are means over three
seeds (of replay, ten). Small models of digits and of made-up data: the table
tells what to expect of a first try, not what a system can do at its best.

- `topk_accuracy_change`: of a Transformer of digits that keeps 16 of 256
  neurons; under it the share of zeros.
- `tree_time_exponent`: of the time of `TreeAttention` over length, from 1,024
  to 8,192 tokens; of softmax attention beside it.
- `relative_clip_over_adam`: loss of masked tokens at equal steps, of a
  scale-invariant encoder trained by `RelativeClipSGD` over a common one trained
  by Adam; the worse of starts of scale 0.2 and 1. Plain SGD is shown.
- `slot_variable_bytes`: what `RelativeClipSGD` keeps; what the head's Adam does
  stands beside it.
- `scale_invariance_error`: change of the encoder when its weights are times 37.
- `locoprop_per_step`: loss of a deep autoencoder after as many batches, over
  that of RMSProp; the time is shown.
- `reverse_replay_error`: of the matrix of a linear system of long memory
  (largest eigenvalue 0.97), over that of forward SGD, both with tail averages;
  a system of shorter memory (0.9) and random replay are shown.

About a quarter of an hour on two quiet cores.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import sys
from collections.abc import Sequence

from benchmarks.article import cue
from benchmarks.article import deep_autoencoder
from benchmarks.article import masked_tokens
from benchmarks.article import regions
from benchmarks.article import replay
from benchmarks.article import top_k
from benchmarks.article import tree
from benchmarks.article.row import Row
from benchmarks.article.row import show
from benchmarks.shared.report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.article")
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args(arguments)
    report = Report("Smaller systems of the article")
    rows: list[Row] = []
    for measure in (
        _replay,
        _neurons,
        _local_steps,
        _memory,
        _cue,
        lambda report: _trees(report, options.rounds),
        lambda report: _scales(report, options.steps),
    ):
        rows += measure(report)
    report.add_figures({"rows": [row.as_record() for row in rows]})
    show(rows)
    return report.finish(options.json)


def _neurons(report: Report) -> list[Row]:
    found = top_k.compare()
    report.add_figures(found)
    report.add_claim(
        "topk_accuracy_change",
        found["topk_accuracy"] - found["dense_accuracy"],
        -0.01,
        ">=",
    )
    return [
        Row(
            "TopKActivation, 16 of 256",
            "accuracy, digits",
            found["topk_accuracy"],
            "all neurons",
            found["dense_accuracy"],
            more_is_better=True,
        )
    ]


def _trees(report: Report, rounds: int) -> list[Row]:
    found = {**tree.times(rounds), **tree.clusters()}
    report.add_figures(found)
    report.add_claim(
        "tree_time_exponent", found["tree_time_exponent"], 1.15, "<="
    )
    longest = tree.LENGTHS[-1]
    return [
        Row(
            "TreeAttention",
            f"CPU ms, {longest} tokens",
            found[f"tree_ms_{longest}"],
            "softmax attention",
            found[f"softmax_ms_{longest}"],
        ),
        *(
            Row(
                f"TreeAttention, {name}",
                "error, means of clusters",
                found[f"{kind}_tree_error"],
                "softmax attention",
                found["softmax_error"],
            )
            for kind, name in (("grown", "grown"), ("fresh", "from nothing"))
        ),
    ]


def _scales(report: Report, steps: int) -> list[Row]:
    found = masked_tokens.compare(masked_tokens.Task(steps))
    report.add_figures(found)
    scales = masked_tokens.SCALES
    report.add_claim(
        "relative_clip_over_adam",
        max(
            found[f"relative_clip_loss_{s}"] / found[f"adam_loss_{s}"]
            for s in scales
        ),
        1.2,
        "<=",
    )
    report.add_claim(
        "slot_variable_bytes", found["relative_clip_slot_bytes"], 0, "=="
    )
    report.add_claim(
        "scale_invariance_error", found["scale_invariance_error"], 1e-4, "<="
    )
    rows = [
        Row(
            "RelativeClipSGD, invariant encoder",
            f"loss, start times {scale}",
            found[f"relative_clip_loss_{scale}"],
            name,
            found[f"{kind}_loss_{scale}"],
        )
        for scale in scales
        for kind, name in (("adam", "Adam"), ("sgd", "plain SGD"))
    ]
    slots = Row(
        "RelativeClipSGD",
        "bytes of slots, encoder",
        found["relative_clip_slot_bytes"],
        "Adam, whole model",
        found["adam_slot_bytes"],
    )
    return [*rows, slots]


def _local_steps(report: Report) -> list[Row]:
    found = deep_autoencoder.compare()
    report.add_figures(found)
    report.add_claim(
        "locoprop_per_step",
        found["locoprop_loss"] / found["rmsprop_loss"],
        1.0,
        "<=",
    )
    return [
        Row(
            "LocoProp",
            measured,
            found[f"locoprop_{name}"],
            "RMSProp",
            found[f"rmsprop_{name}"],
        )
        for measured, name in (
            ("loss after as many batches", "loss"),
            ("CPU seconds for them", "training_seconds"),
        )
    ]


def _replay(report: Report) -> list[Row]:
    systems = {radius: replay.linear_system(radius) for radius in (0.97, 0.9)}
    return _replay_rows(report, systems, replay.chain())


def _replay_rows(
    report: Report,
    systems: dict[float, dict[str, float]],
    chain: dict[str, float],
) -> list[Row]:
    """Returns the rows of linear systems, by radius, and of a chain."""
    for radius, found in systems.items():
        report.add_figures({f"{k}_{radius}": v for k, v in found.items()})
    longest = systems[max(systems)]
    report.add_claim(
        "reverse_replay_error",
        longest["reverse_error"] / longest["forward_error"],
        0.9,
        "<=",
    )
    ratio = chain["introspective_error"] / chain["uniform_error"]
    report.add_figures({**chain, "introspective_error_over_uniform": ratio})
    rows = [
        Row(
            "ReverseReplay",
            f"error, eigenvalue {radius}",
            found["reverse_error"],
            f"{order} SGD",
            found[f"{order}_error"],
        )
        for radius, found in systems.items()
        for order in ("forward", "random")
    ]
    return [
        *rows,
        Row(
            "IntrospectiveReplay",
            "error of values, a chain",
            chain["introspective_error"],
            "uniform replay",
            chain["uniform_error"],
        ),
    ]


def _memory(report: Report) -> list[Row]:
    found = regions.compare()
    report.add_figures(found)
    return [
        Row(
            "SketchMemory, 4 x 256 rows",
            "squared error, smooth function",
            found["memory_mse"],
            name,
            found[f"{kind}_mse"],
        )
        for kind, name in (("units", "32 units"), ("linear", "linear layer"))
    ]


def _cue(report: Report) -> list[Row]:
    found = cue.compare()
    report.add_figures(found)
    return [
        Row(
            name,
            "accuracy, cue at random",
            found[f"{kind}_random_cue"],
            baseline,
            found[f"{other}_random_cue"],
            more_is_better=True,
        )
        for kind, name, other, baseline in (
            ("frr", "FeatureReconstruction", "plain", "plain training"),
            ("adversarial", "AdversarialTrainer", "plain", "plain training"),
            ("daft", "its student", "distilled", "student of plain training"),
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
