import collections

import pytest

from pipelines.g2p.data import splits


def test_shares_are_kept():
    words = [f"word{i}" for i in range(20_000)]
    counts = collections.Counter(splits.split_of(word) for word in words)
    for name, fraction in zip(
        splits.SPLITS, splits.DEFAULT_FRACTIONS, strict=True
    ):
        assert counts[name] / len(words) == pytest.approx(fraction, abs=0.01)


def test_a_word_stays_where_it_is():
    # Certificates and published figures depend on it: this must never change.
    assert {w: splits.split_of(w) for w in ("hello", "guhl", "zebra")} == {
        "hello": "train",
        "guhl": "test",
        "zebra": "train",
    }
