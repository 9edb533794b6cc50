"""T5's span corruption, for many rows at once, filled in in place.

Source: Exploring the Limits of Transfer Learning, arXiv:1910.10683, section
3.3.4: 15 % of the tokens in spans of 3 on average, a sentinel for each span.
Here a sentinel stands at each position of its span, and the model predicts the
span at those positions: an encoder is enough, and nothing is causal.
"""

from typing import NamedTuple

import numpy as np

NOISE_DENSITY = 0.15
MEAN_SPAN = 3.0


class Corrupted(NamedTuple):
    """A batch of corrupted rows.

    Attributes:
        token_ids: int32 `[rows, length]`, sentinels in the place of spans.
        positions: int32 `[rows, n]`, where they stand.
        labels: int32 `[rows, n]`, what they stand for.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def span_counts(length: int) -> tuple[int, int]:
    """Returns how many tokens of a row are corrupted, and in how many spans."""
    noise = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    spans = max(round(noise / MEAN_SPAN), 1)
    return noise, min(spans, noise, length - noise)


def corrupt(rows: np.ndarray, generator: np.random.Generator) -> Corrupted:
    """Corrupts each row at random.

    The n-th span of a row, from 0, is replaced by the id n.

    Args:
        rows: int `[rows, length]`.
        generator: source of the randomness.
    """
    noisy = noise_mask(*rows.shape, generator)
    starts = noisy & ~np.pad(noisy[:, :-1], ((0, 0), (1, 0)))
    sentinel = np.cumsum(starts, axis=1) - 1
    # Every row has the same number of noise tokens, so the positions fill a
    # rectangle.
    positions = np.nonzero(noisy)[1].reshape(len(rows), -1)
    return Corrupted(
        np.where(noisy, sentinel, rows).astype("int32"),
        positions.astype("int32"),
        np.take_along_axis(rows, positions, axis=1).astype("int32"),
    )


def noise_mask(
    count: int, length: int, generator: np.random.Generator
) -> np.ndarray:
    """Returns bool `[count, length]`: which tokens are corrupted.

    Each row starts with kept text, and kept and corrupted spans alternate;
    all ways to cut it up are equally likely.
    """
    noise, spans = span_counts(length)
    kept_lengths = _random_parts(count, length - noise, spans, generator)
    noise_lengths = _random_parts(count, noise, spans, generator)
    lengths = np.stack([kept_lengths, noise_lengths], axis=2)
    ends = np.cumsum(lengths.reshape(count, -1), axis=1)
    position = np.arange(length)[None, :, None]
    # `number` counts the spans that ended before a position. Kept and noisy
    # spans alternate, so odd numbers are noise.
    number = np.sum(position >= ends[:, None, :], axis=2)
    return number % 2 == 1


def _random_parts(
    count: int, total: int, parts: int, generator: np.random.Generator
) -> np.ndarray:
    """Cuts `total` into `parts` positive integers, uniformly; `count` times."""
    order = np.argsort(generator.random((count, total - 1)), axis=1)
    cuts = np.sort(order[:, : parts - 1], axis=1) + 1
    edges = np.pad(cuts, ((0, 0), (1, 1)))
    edges[:, -1] = total
    return np.diff(edges, axis=1)
