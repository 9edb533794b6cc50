"""Few combinations of settings by default, all of them in the large tests."""

import collections
import itertools

import pytest


def covering(*axes, strength=2):
    """Parameters of every combination of one value from each axis.

    By default only a few of them run: any `strength` values of different axes
    still meet in one of these. The others are marked `large`.

    Args:
        *axes: The values of each argument.
        strength: Between how many axes faults are looked for by default.

    Returns:
        A list for `pytest.mark.parametrize`.
    """
    axes = [tuple(axis) for axis in axes]
    chosen, unmet, met = set(), set(), collections.Counter()
    combinations = list(itertools.product(*(range(len(a)) for a in axes)))
    for combination in combinations:
        unmet |= _meetings(combination, strength)
    while unmet:
        # Among equals the one whose values ran least: each has its share.
        best = max(
            combinations,
            key=lambda c: (
                len(_meetings(c, strength) & unmet),
                -sum(met[value] for value in enumerate(c)),
            ),
        )
        chosen.add(best)
        unmet -= _meetings(best, strength)
        met.update(enumerate(best))
    return [
        pytest.param(
            *(axis[i] for axis, i in zip(axes, combination, strict=True)),
            marks=() if combination in chosen else pytest.mark.large,
        )
        for combination in combinations
    ]


def _meetings(combination, strength):
    return set(itertools.combinations(enumerate(combination), strength))
