"""A small classifier that asks a large one, on WordNet's glosses.

```
python -m benchmarks.cascade [--json FILE] [--seeds 3] [--rounds 200]
```

The gloss of a synset is to find one of the 45 files that lexicographers keep
(`make wordnet` fetches them). The small stage is linear in 600 words; the
generalist in hashed words and pairs, of all classes; the specialist alike, of
nouns alone.

- `specialist_gain_over_confidence`: area under accuracy over the share of
  deferred rows, of the rule over that of confidence; mean over the seeds, on
  rows that the rule has not seen.
- `generalist_loss_to_confidence`: by how much the rule that `fit` returns is
  below confidence, where confidence suffices; the worst seed. The network's own
  loss, which `fit` does not return, stands beside it.
- `violation_rate`: how often a certificate, granted for 0.95 on draws of the
  test rows, is broken by the whole of them; 1,000 draws; the worse of a
  certificate of risk and one of cost.
- `latency_over_large_at_30`: a batch of 32 through a cascade that defers 30 %,
  over the large stage alone; compiled alike, one thread, in turns, medians.

Some minutes on two cores.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.cascade import latency
from benchmarks.cascade.classifiers import Stages
from benchmarks.cascade.classifiers import load
from benchmarks.cascade.classifiers import predict
from benchmarks.shared.report import Report
from keras_moe.calibration import DeferralRule
from keras_moe.calibration import evaluate_deferral
from keras_moe.calibration import violation_rate

_TOLERANCE_ABOVE_BEST = 0.04
_BUDGET = 0.3
_DRAWS, _SAMPLE = 1000, 2000
_QUANTILES = np.linspace(0.05, 0.95, 19)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade")
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args(arguments)
    report = Report("A cascade on WordNet's glosses")
    gains, losses, rates = [], [], []
    for seed in range(options.seeds):
        parts = load(seed)
        stages = predict(parts, seed)
        for kind in ("specialist", "generalist"):
            found = _compare(stages, kind, seed)
            name = f"{kind}_{seed}"
            report.add_figures({f"{name}_{k}": v for k, v in found.items()})
            if kind == "specialist":
                gains.append(found["gain"])
            else:
                losses.append(0.0 - found["gain"])
        rates.append(_violations(stages["test"], seed))
    report.add_claim(
        "specialist_gain_over_confidence", float(np.mean(gains)), 0.02, ">="
    )
    report.add_claim("generalist_loss_to_confidence", max(losses), 0.001, "<=")
    report.add_claim("violation_rate", max(rates), 0.065, "<=")
    times = latency.measure(parts["test"], options.rounds)
    ratio = times.pop("latency_over_large_at_30")
    report.add_claim("latency_over_large_at_30", ratio, 0.45, "<=")
    report.add_claim(
        "large_over_small", times.pop("large_over_small"), 8.0, ">="
    )
    report.add_figures(times)
    return report.finish(options.json)


def _compare(stages: dict[str, Stages], kind: str, seed: int) -> dict:
    """Returns areas on the test rows of a rule fitted on others."""
    fit, test = stages["fit"], stages["test"]
    rule = DeferralRule.fit(
        fit.small, getattr(fit, kind), fit.labels, seed=seed
    )
    found = evaluate_deferral(
        rule, test.small, getattr(test, kind), test.labels, seed=seed
    )
    return {
        "gain": found.gain,
        "gain_of_network_when_fitted": rule.report.gain,
        "confidence_area": found.confidence_area,
        "small_accuracy": 1.0 - found.small_loss,
        "large_accuracy": 1.0 - found.large_loss,
        "breakage": found.breakage,
    }


def _violations(test: Stages, seed: int) -> float:
    """Returns the worse share of broken certificates, of risk and of cost."""
    rule = DeferralRule()
    scores = np.asarray(rule.scores(test.small), "float64")
    thresholds = np.quantile(scores, _QUANTILES)
    deferred = scores[:, None] > thresholds
    small, large = (
        (stage.argmax(axis=1) != test.labels)[:, None]
        for stage in (test.small, test.generalist)
    )
    risk = np.where(deferred, large, small)
    tolerance = risk.mean(axis=0).min() + _TOLERANCE_ABOVE_BEST
    settings = {"draws": _DRAWS, "sample_size": _SAMPLE, "seed": seed}
    of_risk = violation_rate(risk, thresholds, tolerance, **settings)
    of_cost = violation_rate(
        deferred[:, ::-1], thresholds[::-1], _BUDGET, **settings
    )
    return max(of_risk.rate, of_cost.rate)


if __name__ == "__main__":
    sys.exit(main())
