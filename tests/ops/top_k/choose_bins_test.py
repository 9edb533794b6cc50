import itertools

import pytest

from keras_moe import ops


@pytest.mark.parametrize(
    ("n", "k", "target"),
    [(200, 10, 0.9), (333, 25, 0.97), (64, 40, 0.8), (500, 3, 0.999)],
)
def test_none_with_fewer_candidates_reaches_it(n, k, target):
    chosen = ops.choose_bins(n, k, target, min_bins=4, max_per_bin=3)
    count = chosen.num_bins * chosen.num_per_bin
    assert chosen.num_bins >= 4 and chosen.num_per_bin <= 3 and count >= k
    assert chosen.expected_recall >= target
    assert chosen.expected_recall == ops.expected_recall(
        n, chosen.num_bins, k, chosen.num_per_bin
    )
    for bins, each in itertools.product(range(4, count + 1), (1, 2, 3)):
        if k <= bins * each < count:
            assert ops.expected_recall(n, bins, k, each) < target


@pytest.mark.parametrize(
    ("k", "target", "most"),
    [(32, 0.95, 64), (100, 0.95, 192), (100, 0.99, 256), (10, 0.99, 48)],
)
def test_fewer_than_powers_of_two_need(k, target, most):
    chosen = ops.choose_bins(131072, k, target)
    assert chosen.num_bins * chosen.num_per_bin <= most


def test_a_recall_of_one_is_exact():
    for n, k in ((1000, 20), (10, 20), (7, 7)):
        chosen = ops.choose_bins(n, k, 1.0)
        assert chosen.num_bins * chosen.num_per_bin >= min(n, k)
        assert chosen.expected_recall == 1.0
    assert ops.choose_bins(1000, 20, 1.0, max_per_bin=1)[:2] == (1000, 1)


@pytest.mark.parametrize("target", [0.0, 1.1, float("nan")])
def test_targets_are_shares(target):
    with pytest.raises(ValueError, match="recall_target"):
        ops.choose_bins(100, 5, target)


@pytest.mark.parametrize("name", ["n", "k", "min_bins", "max_per_bin"])
def test_sizes_are_positive(name):
    sizes = {"n": 100, "k": 5, "min_bins": 1, "max_per_bin": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0"):
        ops.choose_bins(recall_target=0.5, **sizes)
