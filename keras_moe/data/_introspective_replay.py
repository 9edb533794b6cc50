"""Replay of what came before a surprise."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_moe.data._episodes import find_episodes
from keras_moe.validation import check_size


class IntrospectiveReplay:
    """Batches of indices that look back from the most surprising transitions.

    The transitions of the largest errors are pivots; a batch is a pivot and
    what came right before it, in its episode. Values flow backwards through
    such a batch.

    When, and when not: for Q-learning from episodes of which few transitions
    are informative, such as a reward at the end. Errors of all transitions are
    needed before each round. How it compares to uniform replay on a chain shows
    `python -m benchmarks.article`; we have measured nothing larger.
    Experimental.

    Source: [IER, Kumar and Nagaraj, 2022](https://arxiv.org/abs/2206.03171).
    Unlike there, no batch spans two episodes, or the seam of a ring.

    Args:
        batch_size: transitions of a batch.
        num_batches: batches of a round, and so pivots.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> replay = keras_moe.data.IntrospectiveReplay(batch_size=3, num_batches=1)
    >>> errors = [0.1, 0.2, 0.1, 0.3, -2.0, 0.1]
    >>> [batch.tolist() for batch in replay.batches(errors, [0, 0, 1, 1, 1, 1])]
    [[4, 3, 2]]
    """

    def __init__(self, batch_size: int, num_batches: int):
        check_size(batch_size=batch_size, num_batches=num_batches)
        self.batch_size = batch_size
        self.num_batches = num_batches

    def batches(
        self, errors: Any, episode_ids: Any, newest: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yields a round: one batch a pivot, the most surprising first.

        A pivot near the start of its episode lies inside its batch, not at the
        end. A batch from an episode that is shorter is all of it. Of equal
        errors, the older transition comes first.

        Args:
            errors: float `[n]`, temporal-difference errors; their sizes count.
            episode_ids: int `[n]`, equal for neighbours of one episode.
            newest: where the newest transition lies, in a ring that is full;
                `None` for the end.

        Yields:
            int64 `[batch_size]`, indices, later ones first.

        Raises:
            ValueError: if `errors` are not finite or not as many as the ids,
                `episode_ids` is no vector of integers, or `newest` is none of
                its places.
        """
        episodes = find_episodes(episode_ids, newest)
        sizes = np.abs(np.asarray(errors, "float64"))
        if sizes.shape != episodes.places.shape:
            raise ValueError(
                "`errors` must be one for each transition, "
                f"{episodes.places.shape}. Received: shape={sizes.shape}."
            )
        if not np.isfinite(sizes).all():
            raise ValueError(
                "`errors` must be finite. Received: "
                f"{int((~np.isfinite(sizes)).sum())} that are not."
            )
        surprise = sizes[episodes.places]
        pivots = np.argsort(-surprise, kind="stable")[: self.num_batches]
        for pivot in pivots.tolist():
            start, stop = episodes.of(pivot)
            first = max(pivot - self.batch_size + 1, start)
            last = min(first + self.batch_size, stop)
            yield episodes.places[first:last][::-1]
