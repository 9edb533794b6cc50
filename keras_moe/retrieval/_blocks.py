"""Rows cut into blocks of neighbours."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_moe.retrieval._k_means import assign
from keras_moe.retrieval._k_means import k_means
from keras_moe.retrieval._k_means import sums_of

_TURNS = 5


class Blocks(NamedTuple):
    """Which rows lie together, and where.

    Attributes:
        order: numbers of the rows, block after block, `[rows]`.
        starts: int32 `[blocks]`, the first row of each in that order.
        sizes: int32 `[blocks]`.
        centres: float32 `[blocks, dim]`, what queries are held against. Their
            dot products order blocks; they have a scale of their own.
    """

    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    centres: np.ndarray


def num_leaves_for(count: int, num_leaves: int | None, block_size: int) -> int:
    """Returns how many leaves so many rows are gathered in.

    About the square root; not so many that blocks would be half empty.
    """
    most = max(count // _least_rows(block_size), 1)
    return min(num_leaves or round(count**0.5), most)


def max_blocks_for(capacity: int, leaves: int, block_size: int) -> int:
    """Returns how many blocks so many rows have at most."""
    return -(-capacity // block_size) + leaves


def cut_into_blocks(
    rows: np.ndarray, leaves: int, block_size: int, seed: int
) -> Blocks:
    """Gathers neighbours in leaves, and cuts leaves into blocks.

    Leaves are those of k-means. One of few rows is given up: a search pays
    for a whole block. One of more than a block is halved between two means
    until its parts are small enough.

    Args:
        rows: finite float32 `[rows, dim]`.
        leaves: how many there may be.
        block_size: rows of a block at most.
        seed: of what is drawn.
    """
    # Squares of great numbers would overflow.
    rows = rows / (np.abs(rows).max() or np.float32(1))
    centres = k_means(rows, leaves, seed)
    leaf = assign(rows, centres)
    sizes = np.bincount(leaf, minlength=leaves)
    kept = sizes >= min(_least_rows(block_size), sizes.max())
    leaf = assign(rows, centres[kept])
    random = np.random.default_rng(seed)
    by_leaf = np.argsort(leaf, kind="stable")
    ends = np.cumsum(np.bincount(leaf, minlength=int(kept.sum())))
    parts = [
        part
        for members in np.split(by_leaf, ends[:-1])
        if len(members)
        for part in _cut(rows, members, -(-len(members) // block_size), random)
    ]
    order = np.concatenate(parts)
    block_sizes = np.array([len(part) for part in parts], "int32")
    starts = np.cumsum(block_sizes, dtype="int32") - block_sizes
    block = np.repeat(np.arange(len(parts)), block_sizes)
    return Blocks(
        order, starts, block_sizes, _centres(rows[order], block, block_sizes)
    )


def _least_rows(block_size: int) -> int:
    return max(block_size // 4, 1)


def _cut(
    rows: np.ndarray,
    members: np.ndarray,
    parts: int,
    random: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Yields so many parts of one size, neighbours together."""
    if parts == 1:
        yield members
        return
    left = parts // 2
    size = len(members) * left // parts
    own = rows[members]
    ends = own[random.choice(len(own), 2, replace=False)]
    for _ in range(_TURNS):
        order = np.argsort(own @ (ends[1] - ends[0]), kind="stable")
        near, far = order[:size], order[size:]
        ends = np.stack([own[near].mean(axis=0), own[far].mean(axis=0)])
    yield from _cut(rows, members[near], left, random)
    yield from _cut(rows, members[far], parts - left, random)


def _centres(
    rows: np.ndarray, block: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Returns the direction of each block's mean, as long as its rows are.

    The mean itself is shorter the more its rows differ, and so would put
    behind others the block in which an outlier is the best.
    """
    means = sums_of(rows, block) / np.expand_dims(sizes, 1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    lengths = sums_of(lengths, block) / np.expand_dims(sizes, 1)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    unit = means / np.where(norms > 0, norms, 1)
    return (unit * lengths).astype("float32")
