"""Which share of the best an approximate top-k finds."""

import math

import numpy as np

from keras_moe.validation import check_size


def expected_recall(
    n: int, num_bins: int, k: int, num_per_bin: int = 1
) -> float:
    """Returns the expected recall of `keras_moe.ops.partial_reduce_top_k`.

    Exact for columns in random order: of the `k` best, those are lost that
    fall into a bin after `num_per_bin` better ones, and how many of `k` fall
    into a bin of s columns is hypergeometric,

        E[recall] = 1 - 1/k * sum over bins, sum over r > num_per_bin of
                    (r - num_per_bin) * C(s, r) C(n - s, k - r) / C(n, k)

    ([Samaga et al., 2025](https://arxiv.org/abs/2506.04165), there for bins of
    one size; here the first `n % num_bins` bins have a column more). For one a
    bin and many columns it is `num_bins / k * (1 - (1 - 1 / num_bins)**k)`.

    A database of several shards that each have `num_bins` bins counts as one
    with as many bins as all shards together.

    Args:
        n: number of columns.
        num_bins: number of bins.
        k: how many are wanted; of fewer columns, all.
        num_per_bin: how many are kept of each bin.

    Returns:
        A share in (0, 1].

    Raises:
        ValueError: if one of them is not a positive integer.

    Example:

    >>> print(round(keras_moe.ops.expected_recall(16384, 256, 32), 4))
    0.9426
    """
    check_size(n=n, num_bins=num_bins, k=k, num_per_bin=num_per_bin)
    k = min(k, n)
    size, larger = divmod(n, num_bins)
    lost = larger * _excess(n, size + 1, k, num_per_bin)
    lost += (num_bins - larger) * _excess(n, size, k, num_per_bin)
    return min(max(1.0 - lost / k, 0.0), 1.0)


def _excess(n: int, size: int, k: int, num_per_bin: int) -> float:
    """Returns how many of `k` a bin of `size` columns loses, on average."""
    if min(k, size) <= num_per_bin:
        return 0.0
    most = min(k, size)
    r = np.arange(max(num_per_bin + 1, k - (n - size)), most + 1)
    if not len(r):
        return 0.0
    # Falling factorials, k factors at most: differences of `lgamma(n)` would
    # lose as many digits as a large n has.
    inside = _falling(size, most)[r]
    outside = _falling(n - size, min(k, n - size))[k - r]
    whole = _falling(n, k)[k]
    ways = np.array([_log_choose(k, i) for i in r.tolist()])
    chance = np.exp(ways + inside + outside - whole)
    return float(np.sum((r - num_per_bin) * chance))


def _log_choose(k: int, r: int) -> float:
    return math.lgamma(k + 1) - math.lgamma(r + 1) - math.lgamma(k - r + 1)


def _falling(start: int, count: int) -> np.ndarray:
    """Returns log(start (start - 1) ... ) for 0 to `count` factors."""
    factors = start - np.arange(count, dtype="float64")
    return np.concatenate([[0.0], np.cumsum(np.log(factors))])
