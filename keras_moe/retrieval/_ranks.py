"""At which place of an order a thing comes."""

from typing import Literal

import numpy as np


def rank_of(scores: np.ndarray, things: np.ndarray) -> np.ndarray:
    """Returns the place of things in each query's order, from 1 on.

    Args:
        scores: `[queries, n]`, the greatest first; equal ones by number.
        things: numbers in `[0, n)`, `[queries, k]`.
    """
    return np.take_along_axis(places(scores), things, axis=1)


def ranks_within(
    leaf_scores: np.ndarray,
    leaf: np.ndarray,
    scores: np.ndarray,
    neighbors: np.ndarray,
    choices: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ranks of neighbours among leaves, and among rows of the best.

    Args:
        leaf_scores: of the leaves, `[queries, leaves]`.
        leaf: int `[rows]`, the leaf of each row.
        scores: of the rows, as the level below the leaves sees them,
            `[queries, rows]`.
        neighbors: numbers of rows, `[queries, k]`.
        choices: numbers of leaves, in order, `[choices]`.

    Returns:
        int `[queries, k]`, how many leaves must be searched, and `[queries, k,
        choices]`, the place of the neighbour among the rows of so many leaves.

    Example:

    >>> leaf_rank, row_rank = keras_moe.retrieval.ranks_within(
    ...     leaf_scores=np.array([[0.9, 0.2]]),
    ...     leaf=np.array([0, 0, 1]),
    ...     scores=np.array([[0.3, 0.5, 0.7]]),
    ...     neighbors=np.array([[1, 2]]),
    ...     choices=np.array([1, 2]),
    ... )
    >>> leaf_rank.tolist(), row_rank[0, 0].tolist()
    ([[1, 2]], [1, 2])
    """
    place = places(leaf_scores)
    own = np.take_along_axis(scores, neighbors, axis=1)
    ranks = [
        # Of equal rows any may come first: take the middle.
        (_count(*each, choices, "left") + _count(*each, choices, "right")) // 2
        + 1
        for each in zip(scores, own, place[:, leaf], strict=True)
    ]
    reached = np.take_along_axis(place, leaf[neighbors], axis=1)
    return reached, np.stack(ranks)


def _count(
    scores: np.ndarray,
    own: np.ndarray,
    place: np.ndarray,
    choices: np.ndarray,
    side: Literal["left", "right"],
) -> np.ndarray:
    """Returns `[k, choices]`, the rows of so many leaves that score higher.

    With `side="right"` those that score no less.
    """
    above = np.flatnonzero(scores >= own.min())
    order = np.argsort(own)
    # How many of the neighbours each row is above, and from which choice on.
    beaten = np.searchsorted(own[order], scores[above], side)
    choice = np.searchsorted(choices, place[above])
    height, width = len(own) + 1, len(choices) + 1
    cells = np.bincount(beaten * width + choice, minlength=height * width)
    counts = np.cumsum(cells.reshape(height, width), axis=1)[1:, :-1]
    found = np.empty_like(counts)
    found[order] = np.cumsum(counts[::-1], axis=0)[::-1]
    return found


def places(scores: np.ndarray) -> np.ndarray:
    """Returns the place of each thing in each query's order, from 1 on."""
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.empty_like(order)
    count = np.arange(1, scores.shape[1] + 1)
    np.put_along_axis(found, order, np.expand_dims(count, 0), axis=1)
    return found
