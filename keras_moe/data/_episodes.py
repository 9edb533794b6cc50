"""Where episodes begin and end among transitions, in a ring or not."""

from typing import Any
from typing import NamedTuple

import numpy as np


class Episodes(NamedTuple):
    """Transitions in the order of their time.

    Attributes:
        places: int64 `[n]`, where each lies, the oldest first.
        bounds: first position of each episode, and one past its last.
    """

    places: np.ndarray
    bounds: list[tuple[int, int]]

    def of(self, position: int) -> tuple[int, int]:
        """Returns the bounds of the episode of a position."""
        starts = [start for start, _ in self.bounds]
        found = int(np.searchsorted(starts, position, side="right")) - 1
        return self.bounds[found]


def find_episodes(episode_ids: Any, newest: int | None) -> Episodes:
    """Returns the episodes of transitions.

    Args:
        episode_ids: int `[n]`, equal for neighbours of one episode.
        newest: where the newest transition lies, in a ring that is full;
            `None` for the end.

    Raises:
        ValueError: if `episode_ids` is not a vector of integers, or `newest`
            is none of its places.
    """
    ids = np.asarray(episode_ids)
    if ids.ndim != 1 or ids.size and ids.dtype.kind not in "iu":
        raise ValueError(
            "`episode_ids` must be integers of the shape [transitions]. "
            f"Received: shape={ids.shape}, dtype={ids.dtype}."
        )
    if newest is None:
        newest = len(ids) - 1
    elif not 0 <= newest < len(ids):
        raise ValueError(
            f"`newest` must be in [0, {len(ids)}). Received: newest={newest}."
        )
    index = np.roll(np.arange(len(ids)), -(newest + 1))
    if not len(ids):
        return Episodes(index, [])
    changes = np.flatnonzero(np.diff(ids[index])) + 1
    starts = [0, *changes.tolist()]
    return Episodes(
        index, list(zip(starts, [*starts[1:], len(ids)], strict=True))
    )
