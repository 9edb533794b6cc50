"""Where the right document comes, and what that is worth."""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from keras_moe.retrieval import tie_slack

K = 100
_AT_ONCE = 250

Matrix: TypeAlias = np.ndarray | scipy.sparse.csr_matrix


def reciprocal_ranks(
    queries: Matrix, documents: Matrix, wanted: np.ndarray
) -> dict[str, np.ndarray]:
    """Ranks the document that each query wants among all documents.

    By dot products. Documents of one score have all orders, equally likely: the
    value is the mean over these. (BM25 gives many documents the same score.)

    Args:
        queries: float32 `[queries, dim]`, sparse or not.
        documents: float32 `[documents, dim]`, as `queries`.
        wanted: int `[queries]`, rows of documents.

    Returns:
        For each query `"mrr"`, the reciprocal rank or 0 beyond `K`, and
        `"recall_at_1"`, `"recall_at_10"`, `"recall_at_100"`.
    """
    transposed = documents.T
    if scipy.sparse.issparse(transposed):
        transposed = transposed.tocsr()
    lengths = _lengths(documents)
    parts = [
        _ranks_of(
            _dense(queries[rows] @ transposed),
            wanted[rows],
            _lengths(queries[rows]),
            lengths,
        )
        for rows in _batches(len(wanted))
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


def _dense(matrix: Matrix) -> np.ndarray:
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


def _lengths(matrix: Matrix) -> np.ndarray:
    if scipy.sparse.issparse(matrix):
        return scipy.sparse.linalg.norm(matrix, axis=1)
    return np.linalg.norm(matrix, axis=1)


def _ranks_of(
    scores: np.ndarray,
    wanted: np.ndarray,
    queries: np.ndarray,
    documents: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many score more than the wanted one, and how many as much.

    Args:
        scores: `[queries, documents]`.
        wanted: int `[queries]`.
        queries: their lengths.
        documents: their lengths.
    """
    own = np.take_along_axis(scores, wanted[:, None], axis=1)
    slack = tie_slack(
        queries[:, None], np.maximum(documents, documents[wanted, None])
    ).astype("float32")
    more = np.sum(scores > own + slack, axis=1)
    least = np.sum(scores >= own - slack, axis=1)
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
