import collections

import pytest

from keras_moe.orchestration import DEFAULT_FRACTIONS
from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import split_of

pytestmark = pytest.mark.tfx


def test_shares_are_kept():
    keys = [f"word{i}" for i in range(20_000)]
    counts = collections.Counter(split_of(key) for key in keys)
    for name, fraction in zip(SPLITS, DEFAULT_FRACTIONS, strict=True):
        assert counts[name] / len(keys) == pytest.approx(fraction, abs=0.01)


def test_a_key_stays_where_it_is():
    # Certificates and published figures depend on it: this must never change.
    assert {key: split_of(key) for key in ("hello", "guhl", "zebra")} == {
        "hello": "train",
        "guhl": "test",
        "zebra": "train",
    }
