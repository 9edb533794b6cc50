from fractions import Fraction
from math import comb

import numpy as np
import pytest

from keras_moe import ops

# Columns, bins, wanted, kept of each bin. Two by default, all when large;
# `benchmarks.retrieval` prints the greatest error.
SETTINGS = [
    (4096, 110, 100, 1),
    (1000, 48, 20, 2),
    (16384, 256, 32, 1),
    (16384, 128, 64, 2),
    (16384, 64, 64, 4),
    (5000, 130, 50, 1),
    (3000, 17, 32, 4),
]


def exactly(n, num_bins, k, num_per_bin):
    """The hypergeometric form, in fractions, by bins of either size."""
    found = Fraction(0)
    for b in range(num_bins):
        s = len(range(b, n, num_bins))
        for r in range(min(s, k) + 1):
            if k - r <= n - s:
                chance = Fraction(comb(s, r) * comb(n - s, k - r), comb(n, k))
                found += min(r, num_per_bin) * chance
    return float(found / k)


@pytest.mark.parametrize(
    "sizes",
    [
        (20, 3, 5, 1),
        (20, 3, 5, 2),
        (21, 7, 21, 2),
        (50, 2, 40, 8),
        (9, 12, 4, 1),
        (30, 1, 10, 3),
        (400, 31, 50, 2),
    ],
)
def test_is_the_sum_of_fractions(sizes):
    assert ops.expected_recall(*sizes) == pytest.approx(
        exactly(*sizes), abs=1e-12
    )


@pytest.mark.parametrize("num_per_bin", [1, 3])
def test_many_columns_are_as_independent_ones(num_per_bin):
    """For n to infinity the counts are binomial."""
    bins, k = 50, 60
    lost = sum(
        (r - num_per_bin) * comb(k, r) * (bins - 1) ** (k - r) / bins**k
        for r in range(num_per_bin + 1, k + 1)
    )
    found = ops.expected_recall(10**12, bins, k, num_per_bin)
    assert found == pytest.approx(1 - lost * bins / k, abs=1e-9)


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(each, marks=() if i < 2 else pytest.mark.large)
        for i, each in enumerate(SETTINGS)
    ],
)
def test_random_orders_have_it(sizes):
    n, num_bins, k, num_per_bin = sizes
    rng = np.random.default_rng(1)
    x = np.stack([rng.permutation(n) for _ in range(400)]).astype("float32")
    values, _ = ops.partial_reduce_top_k(x, k, num_bins, num_per_bin)
    measured = np.mean(np.asarray(values) >= n - k)
    assert measured == pytest.approx(ops.expected_recall(*sizes), abs=0.005)


def test_is_one_where_nothing_can_be_lost():
    assert ops.expected_recall(100, 100, 10) == 1.0
    assert ops.expected_recall(100, 7, 3, num_per_bin=3) == 1.0
    assert ops.expected_recall(5, 8, 10) == 1.0  # all that there are


@pytest.mark.parametrize("name", ["n", "num_bins", "k", "num_per_bin"])
def test_sizes_are_positive(name):
    sizes = {"n": 10, "num_bins": 5, "k": 2, "num_per_bin": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0"):
        ops.expected_recall(**sizes)
