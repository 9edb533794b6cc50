"""What an exact search finds, against which recall is counted."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Scores that are computed at once: 128 MB of them.
_SCORES_AT_ONCE = 2**25
# Scores that are sums of the same numbers in another order differ by less than
# this share of the lengths of both vectors, whatever the scale of these.
_TIE = 1e-6


class Neighbors(NamedTuple):
    """The true neighbours of queries.

    Attributes:
        scores: float32 `[queries, k]`, the greatest first.
        rows: numbers of candidates, `[queries, k]`.
        distances: float32 `[queries]`, from the direction of the query to that
            of the candidate nearest to it in direction.

    Example:

    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    >>> found = keras_moe.retrieval.exact_search(rows, 3 * rows[:1], k=1)
    >>> found.scores.item(), found.rows.item(), found.distances.item()
    (3.0, 0, 0.0)
    """

    scores: np.ndarray
    rows: np.ndarray
    distances: np.ndarray


def exact_search(vectors: np.ndarray, queries: np.ndarray, k: int) -> Neighbors:
    """Returns the `k` candidates of the greatest dot products.

    Args:
        vectors: float32 `[candidates, dim]`.
        queries: float32 `[queries, dim]`, finite.
        k: at most the number of candidates.

    Example:

    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], "float32")
    >>> found = keras_moe.retrieval.exact_search(rows, rows[1:2], k=2)
    >>> found.rows.tolist()
    [[1, 2]]
    """
    lengths = np.linalg.norm(vectors, axis=1)
    over_length = 1 / np.where(lengths > 0, lengths, np.inf)
    parts = []
    for part in chunks(queries, _SCORES_AT_ONCE // len(vectors)):
        scores = part @ vectors.T
        rows = np.argpartition(scores, -k, axis=1)[:, -k:]
        own = np.take_along_axis(scores, rows, axis=1)
        order = np.argsort(-own, axis=1, kind="stable")
        nearest = np.argmax(scores * over_length, axis=1)
        parts.append(
            Neighbors(
                np.take_along_axis(own, order, axis=1),
                np.take_along_axis(rows, order, axis=1),
                np.linalg.norm(_unit(part) - _unit(vectors[nearest]), axis=1),
            )
        )
    return Neighbors(*map(np.concatenate, zip(*parts, strict=True)))


def recall_at_k(
    found: np.ndarray,
    neighbors: Neighbors,
    vectors: np.ndarray,
    queries: np.ndarray,
) -> np.ndarray:
    """Returns the recall of each query, float64 `[queries]`.

    The share of the k results that score no less than the true k-th: which of
    several equal candidates is returned does not matter, and equal are scores
    that differ by no more than the rounding of float32 does, at any scale of
    vectors. A result that is returned twice counts once.

    Args:
        found: numbers of rows that were found, `[queries, k]`; -1 is none.
        neighbors: of an exact search for the same k.
        vectors: float32 `[candidates, dim]`.
        queries: float32 `[queries, dim]`.

    Example:

    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], "float32")
    >>> neighbors = keras_moe.retrieval.exact_search(rows, rows[1:2], k=2)
    >>> found = np.array([[1, 0]])
    >>> keras_moe.retrieval.recall_at_k(found, neighbors, rows, rows[1:2])
    array([0.5])
    """
    found = np.sort(found, axis=1)
    counts = (found >= 0) & (np.diff(found, axis=1, prepend=-1) != 0)
    results = vectors[np.maximum(found, 0)]
    scores = np.matmul(results, np.expand_dims(queries, 2))[:, :, 0]
    last = vectors[neighbors.rows[:, -1:]]
    slack = tie_slack(
        _lengths(queries)[:, np.newaxis],
        np.maximum(_lengths(results), _lengths(last)),
    )
    near = scores >= neighbors.scores[:, -1:] - slack
    return np.mean(counts & near, axis=1)


def tie_slack(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns how far apart equal scores may be, by the rounding of float32.

    Args:
        queries: lengths of vectors of queries.
        candidates: lengths of vectors of candidates, the greater one of the two
            that are compared; of a shape that goes with that of `queries`.

    Example:

    >>> slack = keras_moe.retrieval.tie_slack(np.array(10.0), np.array(2.0))
    >>> round(float(slack), 9)
    2e-05
    """
    return _TIE * queries * candidates


def chunks(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields an array in parts of at most `size` rows, or of one."""
    size = max(size, 1)
    for start in range(0, len(array), size):
        yield array[start : start + size]


def _lengths(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=-1)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, np.nan)
