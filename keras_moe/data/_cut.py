"""Where the rows that are kept end, and what each of them stands for.

Rows are ranked: by how much they are wanted, and among equals by their draws.
A selector that draws divides what is wanted by the draw before, which makes
the ranking priority sampling: the budget is met exactly, and weights are known
that make the sample unbiased.

Source: [Priority sampling, Duffield, Lund and Thorup,
2007](https://arxiv.org/abs/cs/0509026).
"""

from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import numpy as np

# Compared as tuples are: what is wanted, minus the draw, and what else decides.
Rank: TypeAlias = tuple[Any, ...]


class Cut(NamedTuple):
    """What separates the rows that are kept from the others.

    Attributes:
        budget: how many are kept.
        pool: how many there are.
        unwanted: how many of them have a score of 0.
        topped_up: how many of those are kept, for want of others.
        rank: of the first row that is left out; `None` if there is none.
    """

    budget: int
    pool: int
    unwanted: int
    topped_up: int
    rank: Rank | None

    def weight(self, score: float, weighted: bool) -> float:
        """Returns what a kept row stands for; 1 is as in a uniform sample.

        Args:
            score: of the row.
            weighted: whether rows are drawn and weighed; if not, all stand
                for the same.
        """
        if not weighted:
            return 1.0
        share = self.budget / self.pool
        if score <= 0.0:
            return share * self.unwanted / self.topped_up
        threshold = 0.0 if self.rank is None else self.rank[0]
        return share * max(1.0, threshold / score)


def rank(score: float, draw: float, drawn: bool) -> Rank:
    """Returns the rank of a row: the greater, the sooner it is kept.

    Rows of score 0 come after all others, in the order of their draws.

    Args:
        score: how much it is wanted, at least 0.
        draw: between 0 and 1.
        drawn: whether the draw counts beside the score, or among equals alone.
    """
    return (score / draw if drawn else score, -draw)


def check_budget(budget: int, pool: int) -> None:
    """Raises `ValueError` unless a pool has so many rows."""
    if not isinstance(budget, int | np.integer) or not 1 <= budget <= pool:
        raise ValueError(
            f"`budget` must be an integer from 1 to the pool's {pool} rows. "
            f"Received: budget={budget!r}."
        )


def check_scores(scores: np.ndarray) -> None:
    """Raises `ValueError` unless all are numbers of at least 0."""
    wrong = ~(np.isfinite(scores) & (scores >= 0.0))
    if wrong.any():
        raise ValueError(
            "Scores of rows must be numbers of at least 0. Received: "
            f"{scores[wrong][0]} at row {int(np.flatnonzero(wrong)[0])}."
        )
