"""How well a reverse dictionary finds words, held against BM25.

```
python -m benchmarks.search_quality [--json FILE] [--wordnet FOLDER] [--longer]
```

A gloss of WordNet must find its synset among all 117,659, whose texts are their
words and the words above them. Glosses that are tested are of the test split of
`pipelines.search`, without the few that another synset has word for word in the
training split. There is one right answer each, and so the measure is the
reciprocal rank in the first 100.

- `mrr_over_bm25`: of the model that `make demo-search` trains, over BM25 with
  Porter's stems, whose parameters suit the validation queries best. With its
  95 % interval over queries.
- `bm25_mrr`: must not be below 0.11, or the baseline is broken.
- `lsa_64_mrr`: of 64 singular vectors of the same pairs; no claim.
- `longer_mrr_over_bm25`: of twice the updates, with `--longer`; no claim. The
  report is written before and after it.

All updates are made, however slow the machine is: on two idle cores the demo's
clock does not end them sooner. About four CPU minutes; nine with `--longer`.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.search_quality.bm25 import BM25
from benchmarks.search_quality.lsa import LSA
from benchmarks.search_quality.ranks import ratio_interval
from benchmarks.search_quality.ranks import reciprocal_ranks
from benchmarks.search_quality.train import embed
from benchmarks.search_quality.train import train
from benchmarks.search_quality.train import without_clock
from benchmarks.shared.report import Report
from keras_moe.orchestration import split_of
from pipelines.search.data.wordnet import Synset
from pipelines.search.data.wordnet import find_wordnet
from pipelines.search.data.wordnet import read_wordnet
from pipelines.search.modules.training_config import TrainingConfig

_LONGER = 2


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--wordnet", type=pathlib.Path)
    parser.add_argument("--longer", action="store_true")
    parser.add_argument("--split", default="test", help="where to look")
    options = parser.parse_args()
    synsets = read_wordnet(options.wordnet or find_wordnet())
    splits = np.array([split_of(each.identifier) for each in synsets])
    wanted = _untold(synsets, splits, options.split)
    report = Report("Search quality")
    report.add_figures({"documents": len(synsets), "queries": len(wanted)})
    bm25 = _bm25(synsets, splits, wanted, report)
    report.add_figures(_means(_lsa(synsets, splits, wanted), "lsa_64_"))
    ratio = _over(bm25, synsets, splits, wanted, 1, "", report)
    report.add_claim("mrr_over_bm25", ratio, 1.3, ">=")
    if options.longer:
        if options.json:
            report.write(options.json)
        ratio = _over(bm25, synsets, splits, wanted, _LONGER, "longer_", report)
        report.add_figures({"longer_mrr_over_bm25": ratio})
    raise SystemExit(report.finish(options.json))


def _untold(
    synsets: list[Synset], splits: np.ndarray, split: str
) -> np.ndarray:
    """Returns the rows of a split whose glosses are of no training pair."""
    told = set(_glosses(synsets, np.flatnonzero(splits == "train")))
    rows = np.flatnonzero(splits == split)
    return rows[[synsets[row].gloss not in told for row in rows]]


def _bm25(
    synsets: list[Synset],
    splits: np.ndarray,
    wanted: np.ndarray,
    report: Report,
) -> np.ndarray:
    """Returns the reciprocal ranks of BM25."""
    bm25 = BM25([each.document for each in synsets])
    validation = np.flatnonzero(splits == "validation")
    tuned = bm25.tune(_glosses(synsets, validation), validation)
    queries = bm25.queries(_glosses(synsets, wanted))
    found = reciprocal_ranks(queries, tuned.weights, wanted)
    report.add_figures({"bm25_k1": tuned.k1, "bm25_b": tuned.b})
    means = _means(found, "bm25_")
    report.add_claim("bm25_mrr", means.pop("bm25_mrr"), 0.11, ">=")
    report.add_figures(means)
    return found["mrr"]


def _lsa(
    synsets: list[Synset], splits: np.ndarray, wanted: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns what vectors find that learned from the same pairs."""
    texts = [each.document for each in synsets]
    rows = np.flatnonzero(splits == "train")
    lsa = LSA([f"{texts[row]} {synsets[row].gloss}" for row in rows])
    documents = lsa.embed(texts)
    queries = lsa.embed(_glosses(synsets, wanted))
    return reciprocal_ranks(queries, documents, wanted)


def _over(
    bm25: np.ndarray,
    synsets: list[Synset],
    splits: np.ndarray,
    wanted: np.ndarray,
    factor: int,
    name: str,
    report: Report,
) -> float:
    """Trains a model, and returns what it finds over what BM25 does."""
    rows = np.flatnonzero(splits == "train")
    trained = train(
        [synsets[row] for row in rows], without_clock(TrainingConfig(), factor)
    )
    model = trained.model
    documents = embed(
        model.encode_documents, [each.document for each in synsets]
    )
    queries = embed(model.encode_queries, _glosses(synsets, wanted))
    found = reciprocal_ranks(queries, documents, wanted)
    low, high = ratio_interval(found["mrr"], bm25)
    report.add_figures(
        {
            f"{name}updates": trained.updates,
            f"{name}training_minutes": trained.minutes,
            f"{name}training_cpu_minutes": trained.cpu_minutes,
            **_means(found, name),
            f"{name}interval_low": low,
            f"{name}interval_high": high,
        }
    )
    return float(found["mrr"].mean() / bm25.mean())


def _glosses(synsets: list[Synset], rows: np.ndarray) -> list[str]:
    return [synsets[row].gloss for row in rows]


def _means(found: dict[str, np.ndarray], name: str) -> dict[str, float]:
    return {name + measure: float(v.mean()) for measure, v in found.items()}


if __name__ == "__main__":
    main()
