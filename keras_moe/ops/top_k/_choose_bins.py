"""Bins that a recall needs."""

from typing import NamedTuple

from keras_moe.ops.top_k._expected_recall import expected_recall
from keras_moe.validation import check_size


class Bins(NamedTuple):
    """How `keras_moe.ops.partial_reduce_top_k` is to reduce.

    Attributes:
        num_bins: number of bins.
        num_per_bin: how many are kept of each bin.
        expected_recall: the share of the best that is found, on average.

    Example:

    >>> bins = keras_moe.ops.choose_bins(131072, k=100, recall_target=0.99)
    >>> bins.num_bins * bins.num_per_bin  # candidates, of 131,072
    192
    """

    num_bins: int
    num_per_bin: int
    expected_recall: float


def choose_bins(
    n: int,
    k: int,
    recall_target: float,
    min_bins: int = 16,
    max_per_bin: int = 8,
) -> Bins:
    """Returns the bins that leave the fewest candidates at a recall.

    A bin more costs little; one more of each bin is another pass over all
    scores. With neither bound a single bin that keeps `k`, which is a sort,
    would always leave the fewest. For 100 of 131,072 at a recall of 0.99, XLA's
    own rule leaves 16,384 candidates, the best of each bin alone 4,743, and the
    8 best of each bin 192.

    Args:
        n: number of columns.
        k: how many are wanted.
        recall_target: least expected recall, in (0, 1].
        min_bins: least number of bins: what a device reduces side by side.
        max_per_bin: greatest `num_per_bin`; among equally many candidates, the
            fewest of each bin are taken.

    Returns:
        `Bins` with `num_bins * num_per_bin` of at least `k`; `n` bins of one
        column where no fewer candidates reach the target.

    Raises:
        ValueError: if `recall_target` is not in (0, 1], or a size is not a
            positive integer.

    Example:

    >>> bins = keras_moe.ops.choose_bins(131072, k=100, recall_target=0.99)
    >>> bins.num_bins, bins.num_per_bin, round(bins.expected_recall, 3)
    (24, 8, 0.991)
    """
    check_size(n=n, k=k, min_bins=min_bins, max_per_bin=max_per_bin)
    if not 0.0 < recall_target <= 1.0:
        raise ValueError(
            "`recall_target` must be in (0, 1]. Received: recall_target="
            f"{recall_target}."
        )
    best = Bins(max(n, k), 1, 1.0)
    for per_bin in range(1, max_per_bin + 1):
        # Fewer bins than these keep fewer than k, more cannot be better.
        low = max(min_bins, -(-k // per_bin))
        high = (best.num_bins * best.num_per_bin - 1) // per_bin
        if low > high or expected_recall(n, high, k, per_bin) < recall_target:
            continue
        while low < high:
            middle = (low + high) // 2
            if expected_recall(n, middle, k, per_bin) < recall_target:
                low = middle + 1
            else:
                high = middle
        recall = expected_recall(n, high, k, per_bin)
        best = Bins(high, per_bin, recall)
    return best
