"""At which place of an order a thing comes."""

import numpy as np


def rank_of(scores: np.ndarray, things: np.ndarray) -> np.ndarray:
    """Returns the place of things in each query's order, from 1 on.

    Args:
        scores: `[queries, n]`, the greatest first; equal ones by number.
        things: numbers in `[0, n)`, `[queries, k]`.
    """
    return np.take_along_axis(places(scores), things, axis=1)


def places(scores: np.ndarray) -> np.ndarray:
    """Returns the place of each thing in each query's order, from 1 on."""
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.empty_like(order)
    count = np.arange(1, scores.shape[1] + 1)
    np.put_along_axis(found, order, np.expand_dims(count, 0), axis=1)
    return found
