"""K-means, the same from the same seed."""

import numpy as np

# Rows that centres are learned from, for each of them: more change little.
_SAMPLE_PER_CENTRE = 128
_TURNS = 10
_ROWS_AT_ONCE = 8192


def k_means(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns centres, float32 `[count, dim]`.

    Lloyd's algorithm on a sample of the rows. A centre that loses its rows
    takes the place of a random one.

    Args:
        rows: float32 `[n, dim]`, small enough to be squared.
        count: number of centres, at most n.
        seed: of what is drawn.
    """
    random = np.random.default_rng(seed)
    size = min(len(rows), count * _SAMPLE_PER_CENTRE)
    sample = rows[random.choice(len(rows), size, replace=False)]
    centres = sample[:count].copy()
    for _ in range(_TURNS):
        nearest = assign(sample, centres)
        sizes = np.bincount(nearest, minlength=count)
        held = sizes > 0
        centres[held] = sums_of(sample, nearest)
        centres[held] /= np.expand_dims(sizes[held], 1)
        lost = count - int(held.sum())
        centres[~held] = sample[random.choice(size, lost)]
    return centres


def assign(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the number of the nearest centre of each row."""
    half_squares = np.sum(centres * centres, axis=1) / 2
    parts = [
        np.argmax(part @ centres.T - half_squares, axis=1)
        for part in np.split(
            rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE)
        )
    ]
    return np.concatenate(parts)


def sums_of(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns the sums of the rows of each group that has any, in order."""
    order = np.argsort(group, kind="stable")
    sorted_groups = group[order]
    first = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
    return np.add.reduceat(rows[order], first, axis=0)
