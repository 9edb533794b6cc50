"""Approximate top-k: the best of each bin, and the best of those."""

import math

import numpy as np
from keras import ops

from keras_moe.backend import approximate_top_k
from keras_moe.ops.top_k._merge_top_k import merge_top_k
from keras_moe.ops.top_k._merge_top_k import top_k_or_fewer
from keras_moe.ops.top_k._rankable import mark_rows
from keras_moe.ops.top_k._rankable import rankable
from keras_moe.types import Tensor
from keras_moe.validation import check_size


def partial_reduce_top_k(
    x: Tensor,
    k: int,
    num_bins: int,
    num_per_bin: int = 1,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns most of the `k` greatest scores, without sorting them all.

    Column j falls into bin `j % num_bins`; the `num_per_bin` best of each bin
    are kept, and the `k` best of these returned. Over columns in random order,
    `keras_moe.ops.expected_recall` says which share of the true `k` best that
    finds, and `keras_moe.ops.choose_bins` which bins a share needs. Exact
    where bins hold no more than `num_per_bin` columns.

    Sources: TPU-KNN ([Chern et al., 2022](https://arxiv.org/abs/2206.14286))
    for one a bin, [Samaga et al., 2025](https://arxiv.org/abs/2506.04165) for
    several. Made for accelerators, which are slow at sorting: on a CPU the
    exact `keras.ops.top_k` is faster. On TPUs, where `num_per_bin`
    is 1, XLA's own `approx_max_k` is called, with at least as many bins, and
    the order of equal scores is XLA's; that was never run on a TPU.

    Args:
        x: floating point `[..., n]`. Minus infinity is no score: as masked.
        k: how many to return; may be greater than `n`.
        num_bins: number of bins.
        num_per_bin: how many are kept of each bin.
        mask: bool, of a shape that broadcasts to that of `x`: which columns
            may be returned.

    Returns:
        Values `[..., k]`, the greatest first, and int32 `[..., k]`, their
        columns. Equal scores come in the order of their columns. Where fewer
        than `k` can be returned, minus infinity and -1 fill up. Rows with a
        NaN that is not masked come out as NaN and -1.

    Raises:
        ValueError: if `x` is not floating point, a size is not a positive
            integer, or the bins keep fewer than `k`.

    Example:

    >>> x = np.array([3.0, 9.0, 1.0, 7.0, 8.0, 2.0])
    >>> # Bins 0 (3, 1, 8) and 1 (9, 7, 2), the best of each:
    >>> values, index = keras_moe.ops.partial_reduce_top_k(x, 2, num_bins=2)
    >>> print(np.array(values), np.array(index))
    [9. 8.] [1 4]
    """
    check_size(k=k, num_bins=num_bins, num_per_bin=num_per_bin)
    if num_bins * num_per_bin < k:
        raise ValueError(
            "`num_bins * num_per_bin` must be at least k. Received: num_bins="
            f"{num_bins}, num_per_bin={num_per_bin}, k={k}."
        )
    scores, broken = rankable(ops.convert_to_tensor(x), mask)
    n = scores.shape[-1]
    if n is not None and n <= num_bins * num_per_bin:
        return mark_rows(*top_k_or_fewer(scores, k), broken)
    if num_per_bin == 1 and n is not None:
        # XLA takes the target for the chance exp((1 - k) / bins) that a score
        # shares no bin with a better one, and rounds the bins upwards.
        found = approximate_top_k(scores, k, math.exp((1 - k) / num_bins))
        if found is not None:
            return mark_rows(*_without_infinite(*found), broken)
    best = merge_top_k(*_best_of_bins(scores, num_bins, num_per_bin), k)
    return mark_rows(*best, broken)


def exact_top_k(
    x: Tensor, k: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns what `partial_reduce_top_k` would with a bin for each column."""
    scores, broken = rankable(ops.convert_to_tensor(x), mask)
    return mark_rows(*top_k_or_fewer(scores, k), broken)


def _best_of_bins(
    x: Tensor, num_bins: int, num_per_bin: int
) -> tuple[Tensor, Tensor]:
    """Returns values `[..., num_per_bin * num_bins]` and their columns."""
    *lead, n = ops.shape(x)
    height = (n + num_bins - 1) // num_bins
    missing = height * num_bins - n
    if not isinstance(missing, int) or missing:
        filler = ops.full((*lead, missing), -np.inf, dtype=x.dtype)
        x = ops.concatenate([x, filler], axis=-1)
    rows = ops.reshape(x, (*lead, height, num_bins))
    number = ops.expand_dims(ops.arange(height, dtype="int32"), 1)
    column = ops.arange(num_bins, dtype="int32")
    values, index = [], []
    for turn in range(num_per_bin):
        best = ops.max(rows, axis=-2)
        # TensorFlow's `argmax` may name any of equals: find the first.
        is_best = rows == ops.expand_dims(best, -2)
        place = ops.min(ops.where(is_best, number, height), axis=-2)
        values.append(best)
        index.append(ops.where(best > -np.inf, place * num_bins + column, -1))
        if turn + 1 < num_per_bin:
            taken = number == ops.expand_dims(place, -2)
            rows = ops.where(taken, -np.inf, rows)
    return ops.concatenate(values, axis=-1), ops.concatenate(index, axis=-1)


def _without_infinite(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    return values, ops.where(values > -np.inf, index, -1)
