import functools
import types

import pytest

from benchmarks.shared.report import Report
from benchmarks.training_memory import arrays
from benchmarks.training_memory import files
from benchmarks.training_memory.claims import READERS
from benchmarks.training_memory.claims import TIMES
from benchmarks.training_memory.claims import add_claims
from pipelines.g2p.modules import batches
from pipelines.g2p.modules.transformed import stream_pairs

ENTRIES = [
    (word, ("AH", "B AH")[: 1 + len(word) % 2])
    for word in ("a", "bee", "cedar", "do", "each", "fo", "goose", "hi")
]


def figures(growth):
    """Three rounds, of which one is an outlier."""
    return {
        (what, reader, times): [
            {
                "peak_mib": peak * (growth if times > 1 else 1.0),
                "updates_per_second": 2.0,
                "examples_per_second": 3.0,
            }
            for peak in (100.0, 500.0, 90.0)
        ]
        for what in ("train", "read")
        for reader in READERS
        for times in TIMES
    }


@pytest.mark.parametrize(("growth", "holds"), [(1.05, True), (1.1001, False)])
def test_the_growth_of_medians_counts(growth, holds):
    report = Report("test")
    add_claims(report, figures(growth))
    (claim,) = report.claims
    assert claim.value == pytest.approx(growth) and claim.holds == holds
    assert report.figures["train_stream_1x_peak_mib"] == 100.0


def test_both_readers_read_the_same_files(tmp_path, monkeypatch):
    splits = {"train": ENTRIES, "validation": ENTRIES[:3]}
    monkeypatch.setattr(files, "load_splits", lambda: splits)
    for times in TIMES:
        files.write_examples(tmp_path, times)
        pairs = functools.partial(
            stream_pairs, [str(files.pattern(tmp_path, times, "train"))]
        )
        config = types.SimpleNamespace(pad_id=0, start_id=0)
        seen = [
            sorted(
                (tuple(x[x != 0]), tuple(y[y != 0]))
                for inputs, labels in reader.training_batches(
                    pairs, config, 4, 0
                )(0)
                for x, y in zip(
                    inputs["encoder_token_ids"].numpy(),
                    labels.numpy(),
                    strict=True,
                )
            )
            for reader in (batches, arrays)
        ]
        assert seen[0] == seen[1]
        assert len(seen[0]) == times * sum(len(ps) for _, ps in ENTRIES)
        assert len(set(seen[0])) == len(seen[0]) // times
