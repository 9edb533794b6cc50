"""Where the right document comes, and what that is worth."""

from collections.abc import Callable
from collections.abc import Iterable

import numpy as np

K = 100
# Scores that differ by less are equal: products of float32 vectors.
_TIE = 1e-6
_AT_ONCE = 250


def reciprocal_ranks(
    score: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray
) -> dict[str, np.ndarray]:
    """Ranks the document that each query wants among all documents.

    Documents of one score have all orders, equally likely: the value is the
    mean over these. (BM25 gives many documents the same score.)

    Args:
        score: from numbers of queries to scores `[queries, documents]`.
        wanted: int `[queries]`, rows of documents.

    Returns:
        For each query `"mrr"`, the reciprocal rank or 0 beyond `K`, and
        `"recall_at_1"`, `"recall_at_10"`, `"recall_at_100"`.
    """
    parts = [
        _ranks_of(score(rows), wanted[rows]) for rows in _batches(len(wanted))
    ]
    before, equal = (np.concatenate(part) for part in zip(*parts, strict=True))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, K + 1))])
    last = np.minimum(before + equal, K)
    values = {"mrr": (harmonic[last] - harmonic[np.minimum(before, K)]) / equal}
    for k in (1, 10, K):
        values[f"recall_at_{k}"] = np.clip((k - before) / equal, 0.0, 1.0)
    return values


def _batches(count: int) -> Iterable[np.ndarray]:
    return np.split(np.arange(count), range(_AT_ONCE, count, _AT_ONCE))


def _ranks_of(
    scores: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many score more than the wanted one, and how many as much."""
    own = np.take_along_axis(scores, wanted[:, None], axis=1)
    more = np.sum(scores > own + _TIE, axis=1)
    least = np.sum(scores >= own - _TIE, axis=1)
    return more, least - more


def ratio_interval(
    ours: np.ndarray, theirs: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % interval of a ratio of means, by drawing queries anew.

    Args:
        ours: a value for each query.
        theirs: a value for each query, of another system.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(1000):
        rows = rng.integers(0, len(ours), len(ours))
        ratios.append(ours[rows].mean() / theirs[rows].mean())
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
