"""Settings that nothing beats: of no less recall for fewer bytes."""

import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_moe.retrieval._levels import Level
from keras_moe.retrieval._levels import bytes_per_query

# All settings up to here are tried, and above those that are so much greater.
_DENSE = 32
_RATIO = 1.07
_MULTIPLIERS = np.geomspace(1e-3, 1e5, 240)


class OperatingPoint(NamedTuple):
    """Settings of an index, and what they come to.

    Attributes:
        settings: one for each level.
        bytes_per_query: that a query reads.
        predicted_recall: share of the true neighbours that is found, from the
            rank curves.

    Example:

    >>> point = keras_moe.retrieval.OperatingPoint({"lists": 4}, 65536.0, 0.93)
    >>> point.predicted_recall
    0.93
    """

    settings: dict[str, int]
    bytes_per_query: float
    predicted_recall: float


def choices_of(level: Level) -> np.ndarray:
    """Returns the settings of a level that are tried, in order."""
    dense = np.arange(level.least, min(level.least + _DENSE, level.most + 1))
    steps = math.log(max(level.most / dense[-1], 1)) / math.log(_RATIO)
    sparse = np.geomspace(dense[-1], level.most, math.ceil(steps) + 1)
    return np.unique(np.concatenate([dense, np.rint(sparse).astype(int)]))


def find_frontier(
    levels: Sequence[Level],
    choices: Sequence[np.ndarray],
    ranks: Sequence[np.ndarray],
) -> tuple[OperatingPoint, ...]:
    """Returns the frontier, the cheapest settings first.

    A neighbour is found where it comes through each level. Below the first
    level, a Lagrange multiplier, the price of a byte, parts the problem: each
    level has the setting at which the logarithm of its rank curve gains no
    more by another candidate than that costs. The multiplier is swept for each
    setting of the first level, on which the ranks below depend. It passes over
    settings where a curve bends inwards: those of the last level are put back,
    for budgets that fall between.

    Args:
        levels: of the index.
        choices: settings of each level.
        ranks: of sample queries' true neighbours, as `TunableIndex.ranks`
            returns them for `choices[0]`.
    """
    points = [
        OperatingPoint(
            settings, bytes_per_query(levels, settings), float(recall)
        )
        for settings, recall in _candidates(levels, choices, ranks)
    ]
    points.sort(key=lambda p: (p.bytes_per_query, -p.predicted_recall))
    frontier: list[OperatingPoint] = []
    for point in points:
        best = frontier[-1].predicted_recall if frontier else -1.0
        if point.predicted_recall > best:
            frontier.append(point)
    return tuple(frontier)


def _candidates(
    levels: Sequence[Level],
    choices: Sequence[np.ndarray],
    ranks: Sequence[np.ndarray],
) -> Iterator[tuple[dict[str, int], float]]:
    names = [level.name for level in levels]
    # A price of 1 makes all that can be read cost as much as a loss of 1.
    whole = sum(level.most * level.bytes_each for level in levels[1:])
    prices = _MULTIPLIERS / (whole or 1)
    for number, first in enumerate(choices[0]):
        through = ranks[0] <= first
        # Ranks below, of what the first level lets through at this setting.
        below = [each[..., number] for each in ranks[1:]]
        chosen = [
            _choose(tried, each[through], prices * level.bytes_each)
            for level, tried, each in zip(
                levels[1:], choices[1:], below, strict=True
            )
        ]
        steps = list(dict.fromkeys(zip(*chosen, strict=True)))[::-1]
        for rest in _fill_in(steps, choices[-1]) if steps else [()]:
            found = through
            for each, setting in zip(below, rest, strict=True):
                found = found & (each <= setting)
            settings = dict(zip(names, (int(first), *rest), strict=True))
            yield settings, found.mean()


def _fill_in(
    steps: list[tuple[int, ...]], choices: np.ndarray
) -> Iterator[tuple[int, ...]]:
    """Yields settings of falling price, and what the last level has between."""
    yield steps[0]
    for one, other in itertools.pairwise(steps):
        between = choices[(choices > one[-1]) & (choices < other[-1])]
        yield from ((*one[:-1], each) for each in between.tolist())
        yield other


def _choose(
    choices: np.ndarray, ranks: np.ndarray, prices: np.ndarray
) -> list[int]:
    """Returns the setting of one level at each price."""
    found = np.searchsorted(np.sort(ranks), choices, side="right")
    loss = -np.log(np.maximum(found, 0.5) / max(len(ranks), 1))
    cost = np.multiply.outer(prices, choices)
    return choices[np.argmin(loss + cost, axis=1)].tolist()
