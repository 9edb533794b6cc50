"""Cutting time, the fourth axis, into chunks of one size."""

from collections.abc import Callable

import keras
from keras import ops

from keras_moe.types import Tensor

_TIME = 3


def count_chunks(
    length: int | Tensor, chunk_size: int | Tensor
) -> int | Tensor:
    """Returns how many chunks cover `length`; at least 1."""
    if isinstance(length, int) and isinstance(chunk_size, int):
        return max(1, -(-length // chunk_size))
    return ops.maximum(-(-length // chunk_size), 1)


def even_chunks(
    length: int | Tensor, most: int
) -> tuple[int | Tensor, int | Tensor]:
    """Returns a number and a size, up to `most`, that barely cover `length`."""
    count = count_chunks(length, most)
    return count, count_chunks(length, count)


def split(x: Tensor, count: int | Tensor, chunk_size: int | Tensor) -> Tensor:
    """Returns `[chunks, b, n, g, chunk_size, ...]`; zeros follow the end.

    Args:
        x: `[b, n, g, t, ...]`.
        count: number of chunks.
        chunk_size: size of each.
    """
    before, length, after = _around(ops.shape(x), 1)
    missing = count * chunk_size - length[0]
    if not (isinstance(missing, int) and missing == 0):
        zeros = ops.zeros((*before, missing, *after), dtype=x.dtype)
        x = ops.concatenate([x, zeros], axis=_TIME)
    x = ops.reshape(x, (*before, count, chunk_size, *after))
    return ops.moveaxis(x, _TIME, 0)


def join(chunks: Tensor, length: int | Tensor) -> Tensor:
    """Undoes `split` of what was `length` long."""
    x = ops.moveaxis(chunks, 0, _TIME)
    before, (count, chunk_size), after = _around(ops.shape(x), 2)
    x = ops.reshape(x, (*before, count * chunk_size, *after))
    return x[:, :, :, :length]


def map_chunks(function: Callable, chunks: tuple[Tensor, ...]) -> tuple:
    """Applies `function` to one chunk after the other.

    One after the other, so that what a chunk needs on the way exists once.

    Args:
        function: takes an array of each of `chunks`; returns a tuple of arrays.
        chunks: arrays `[chunks, ...]`.
    """
    if chunks[0].shape[0] == 1:
        results = function(*(each[0] for each in chunks))
        return keras.tree.map_structure(lambda x: x[None], results)
    return ops.map(lambda chunk: function(*chunk), chunks)


def scan_chunks(
    function: Callable, initial: tuple, chunks: tuple, reverse: bool = False
) -> tuple[tuple, tuple]:
    """Runs through chunks, carrying a state from one to the next.

    Args:
        function: takes the state and a chunk; returns the next state and what
            is kept of the chunk, of the state's structure.
        initial: the first state, a tuple of arrays.
        chunks: arrays `[chunks, ...]`, nested.
        reverse: whether to start at the last chunk.

    Returns:
        The last state, and what was kept of each chunk.
    """
    first = keras.tree.flatten(chunks)[0]
    count = ops.shape(first)[0]
    if isinstance(count, int) and count == 1:
        one = keras.tree.map_structure(lambda x: x[0], chunks)
        final, kept = function(initial, one)
        return final, keras.tree.map_structure(lambda x: x[None], kept)

    def at(state: tuple, index: Tensor) -> tuple[tuple, tuple]:
        return function(
            state,
            keras.tree.map_structure(
                lambda x: ops.take(x, index, axis=0), chunks
            ),
        )

    # By their numbers: of several arrays of unknown length, Keras's scan
    # fails on TensorFlow.
    return ops.scan(at, initial, ops.arange(count), reverse=reverse)


def _around(shape: tuple, axes: int) -> tuple[tuple, tuple, tuple]:
    end = _TIME + axes
    return tuple(shape[:_TIME]), tuple(shape[_TIME:end]), tuple(shape[end:])
