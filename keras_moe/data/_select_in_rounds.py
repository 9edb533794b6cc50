"""Choosing in rounds, with a model that learns between them."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_moe.data._answers import inputs_and_labels
from keras_moe.data._answers import pool_size
from keras_moe.data._cut import check_budget
from keras_moe.data._random_selector import RandomSelector
from keras_moe.data._selection import Selection
from keras_moe.data._selector import Selector
from keras_moe.validation import check_size


def select_in_rounds(
    selector: Selector,
    fit: Callable[[np.ndarray, np.ndarray], Any],
    data: Any,
    budget: int,
    num_rounds: int = 6,
    seed: int = 0,
    keys: Iterable[object] | None = None,
) -> Selection:
    """Spends a budget in rounds; a model learns from what was chosen so far.

    The first round is drawn uniformly. Weights of a selector that weighs are
    those of the whole sample: rows of earlier rounds, which later ones cannot
    draw, count for themselves in those. Without a cap, the mean of
    `weight * loss` over all rounds is, on average over draws, that over the
    pool.

    Source of the weights: those of single draws in [Farquhar et al.,
    2021](https://arxiv.org/abs/2101.11665), for rounds of many.

    Args:
        selector: the selector of all rounds but the first.
        fit: called with the rows that were chosen so far and their weights;
            returns what `selector.select` takes as a model.
        data: as for `selector.select`.
        budget: rows of all rounds together.
        num_rounds: how many, at most the budget; as even as may be.
        seed: of the draws.
        keys: as for `selector.select`.

    Returns:
        A `Selection`, round after round, ascending within each.

    Raises:
        ValueError: as `selector.select`, or if there are more rounds than rows
            to choose.

    Example:

    >>> x = np.random.default_rng(0).random((50, 1))
    >>> def fit(rows, weights):
    ...     middle = np.average(x[rows, 0], weights=weights)
    ...     def model(x):
    ...         p = 1 / (1 + np.exp(5 * (x[:, 0] - middle)))
    ...         return np.stack([p, 1 - p], axis=1)
    ...     return model
    >>> selector = keras_moe.data.MarginSelector()
    >>> chosen = keras_moe.data.select_in_rounds(
    ...     selector, fit, x, budget=12, num_rounds=3
    ... )
    >>> len(np.unique(chosen.indices))
    12
    """
    check_size(num_rounds=num_rounds)
    size = pool_size(inputs_and_labels(data)[0])
    check_budget(budget, size)
    if num_rounds > budget:
        raise ValueError(
            f"`num_rounds` must be at most the budget, {budget}. Received: "
            f"num_rounds={num_rounds}."
        )
    named = None if keys is None else list(keys)
    ends = np.linspace(0, budget, num_rounds + 1).astype(int)
    rounds: list[Selection] = []
    for number, count in enumerate(np.diff(ends)):
        if not rounds:
            first = RandomSelector().draw(
                np.ones(size), int(count), seed, number, named
            )
            rounds.append(first)
            continue
        so_far = _join(rounds, selector, size)
        model = fit(so_far.indices, so_far.weights)
        scores = selector.raw_scores(model, data)
        rounds.append(
            selector.draw(
                scores, int(count), seed, number, named, so_far.indices
            )
        )
    return _join(rounds, selector, size)


def _join(rounds: list[Selection], selector: Selector, pool: int) -> Selection:
    indices = np.concatenate([each.indices for each in rounds])
    weights = np.ones(len(indices))
    if selector.is_weighted:
        weights = np.concatenate(list(_weights(rounds, pool)))
    topped_up = np.concatenate([each.topped_up for each in rounds])
    return Selection(indices, selector.capped(weights), topped_up)


def _weights(rounds: list[Selection], pool: int) -> Iterable[np.ndarray]:
    """Yields the weights of each round's rows in the sample of all rounds.

    Every round by itself estimates the mean over the pool: rows that were
    chosen before count once, drawn ones for those that are left. The sample is
    the mean of the rounds, by their sizes.
    """
    before, after = 0, sum(map(len, rounds))
    for each in rounds:
        after -= len(each)
        yield each.weights * (pool - before) / pool + after / pool
        before += len(each)
