"""Replay of short buffers, each from its end."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_moe.data._episodes import find_episodes
from keras_moe.validation import check_size


class ReverseReplay:
    """Batches of indices that go through a stream buffer by buffer, backwards.

    Updates by neighbours that go forward in time are biased, since each has
    used the noise of which the next depends. Going backwards inside a buffer,
    with `gap` transitions left out between buffers, undoes most of that.

    When, and when not: for learning online from one trajectory of long memory.
    A linear system was found with less error than by going forwards where its
    largest eigenvalue was 0.97, and with the same where it was 0.9, once the
    step sizes were tuned (`python -m benchmarks.article`). A shuffle behind
    this undoes it. Experimental.

    Source: [SGD-RER, Kowshik et al., 2021](https://arxiv.org/abs/2103.05896);
    its other half is the mean over the weights at the ends of buffers.

    Args:
        buffer_size: transitions of a buffer that are replayed, B.
        gap: transitions before each that are not.
        batch_size: of consecutive transitions, newest first; the last batch of
            a buffer may be shorter.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> replay = keras_moe.data.ReverseReplay(buffer_size=3, gap=1)
    >>> order = replay.batches(np.zeros(8, int))
    >>> [int(i) for batch in order for i in batch]
    [3, 2, 1, 7, 6, 5]
    """

    def __init__(self, buffer_size: int, gap: int = 0, batch_size: int = 1):
        check_size(buffer_size=buffer_size, batch_size=batch_size)
        if isinstance(gap, bool) or gap != 0:
            check_size(gap=gap)
        if batch_size > buffer_size:
            raise ValueError(
                "`batch_size` must be at most `buffer_size`: no batch holds "
                f"transitions of two buffers. Received: batch_size="
                f"{batch_size}, buffer_size={buffer_size}."
            )
        self.buffer_size = buffer_size
        self.gap = gap
        self.batch_size = batch_size

    def batches(
        self, episode_ids: Any, newest: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yields one pass through the transitions.

        No batch and no buffer spans two episodes. What is left of an episode,
        or an episode that is shorter than a buffer, is a shorter buffer, of
        which `gap` are left out as of any other.

        Args:
            episode_ids: int `[n]`, equal for neighbours of one episode.
            newest: where the newest transition lies, in a ring that is full;
                `None` for the end.

        Yields:
            int64 `[batch_size]`, indices, later ones first.

        Raises:
            ValueError: if `episode_ids` is no vector of integers, or `newest`
                is none of its places.
        """
        episodes = find_episodes(episode_ids, newest)
        for start, stop in episodes.bounds:
            for first in range(start, stop, self.buffer_size + self.gap):
                last = min(first + self.gap + self.buffer_size, stop)
                backwards = episodes.places[first + self.gap : last][::-1]
                for at in range(0, len(backwards), self.batch_size):
                    yield backwards[at : at + self.batch_size]
