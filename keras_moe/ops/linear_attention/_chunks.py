"""Going through time, the fourth axis, in chunks of one size."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor

_TIME = 3


class Chunks(NamedTuple):
    """How time is cut.

    Attributes:
        length: positions that there are.
        number: how many chunks.
        size: positions of each; the last may reach beyond the end.
    """

    length: int | Tensor
    number: int | Tensor
    size: int | Tensor

    @classmethod
    def of_size(cls, length: int | Tensor, size: int) -> "Chunks":
        """Cuts into chunks of a size."""
        return cls(length, _divide(length, size), size)

    @classmethod
    def of_most(cls, length: int | Tensor, most: int) -> "Chunks":
        """Cuts into as few chunks of at most a size; they barely cover all."""
        number = _divide(length, most)
        return cls(length, number, _divide(length, number))

    @property
    def missing(self) -> int | Tensor:
        """Positions beyond the end."""
        return self.number * self.size - self.length

    @property
    def is_one(self) -> bool:
        """Whether there is a single chunk, as far as is known by now."""
        return isinstance(self.number, int) and self.number == 1

    def pad(self, x: Tensor | None, fill: float = 0.0) -> Tensor | None:
        """Returns `x` with what lies beyond the end filled in."""
        if x is None or (isinstance(self.missing, int) and not self.missing):
            return x
        shape = list(ops.shape(x))
        shape[_TIME] = self.missing
        beyond = ops.zeros(shape, dtype=x.dtype) + ops.cast(fill, x.dtype)
        return ops.concatenate([x, beyond], axis=_TIME)

    def pad_mask(self, visible: Tensor | None, like: Tensor) -> Tensor | None:
        """Returns the mask, false beyond the end; `None` where all is seen.

        Args:
            visible: bool `[b, 1, 1, t]`, or `None`.
            like: `[b, n, g, t, dim]`.
        """
        if visible is None:
            if isinstance(self.missing, int) and not self.missing:
                return None
            visible = ops.ones_like(like[:, :1, :1, :, 0], dtype="int32")
        padded = self.pad(ops.cast(visible, "int32"))
        return ops.cast(padded, "bool")

    def map(
        self,
        function: Callable,
        whole: tuple[Tensor | None, ...],
        each: tuple[Tensor, ...] = (),
    ) -> tuple:
        """Applies `function` to one chunk after the other.

        One after the other, so that what a chunk needs on the way exists once.

        Args:
            function: takes a chunk of each of `whole` and an entry of each of
                `each`; returns arrays.
            whole: padded arrays `[b, n, g, t, ...]`, or `None`.
            each: arrays `[chunks, ...]`.

        Returns:
            What it returned, `[chunks, ...]`.
        """
        if self.is_one:
            results = function(*whole, *map(_only, each))
            return keras.tree.map_structure(_as_only, results)

        def at(index: Tensor) -> tuple:
            return function(
                *(None if x is None else self._chunk(x, index) for x in whole),
                *(ops.take(x, index, axis=0) for x in each),
            )

        if is_sharded():
            return _stacked([at(index) for index in range(self.number)])
        return ops.map(at, ops.arange(self.number, dtype="int32"))

    def _chunk(self, x: Tensor, index: Tensor) -> Tensor:
        start = [0] * len(x.shape)
        start[_TIME] = index * self.size
        shape = list(ops.shape(x))
        shape[_TIME] = self.size
        return ops.slice(x, start, shape)

    def join(self, chunks: Tensor) -> Tensor:
        """Returns `[b, n, g, t, ...]` for `[chunks, b, n, g, size, ...]`."""
        x = ops.moveaxis(chunks, 0, _TIME)
        shape = ops.shape(x)
        total = self.number * self.size
        x = ops.reshape(x, (*shape[:_TIME], total, *shape[_TIME + 2 :]))
        if isinstance(self.missing, int) and not self.missing:
            return x
        return x[:, :, :, : self.length]

    def scan(
        self,
        function: Callable,
        initial: tuple,
        chunks: tuple,
        reverse: bool = False,
    ) -> tuple[tuple, tuple]:
        """Runs through chunks, carrying a state from one to the next.

        Args:
            function: takes the state and a chunk; returns the next state and
                what is kept of the chunk, of the state's structure.
            initial: the first state, a tuple of arrays.
            chunks: arrays `[chunks, ...]`, nested.
            reverse: whether to start at the last chunk.

        Returns:
            The last state, and what was kept of each chunk.
        """
        if self.is_one:
            one = keras.tree.map_structure(_only, chunks)
            final, kept = function(initial, one)
            return final, keras.tree.map_structure(_as_only, kept)

        def at(state: tuple, index: Tensor) -> tuple[tuple, tuple]:
            chunk = keras.tree.map_structure(
                lambda x: ops.take(x, index, axis=0), chunks
            )
            return function(state, chunk)

        if is_sharded():
            kept, state = [None] * self.number, initial
            order = range(self.number)
            for index in reversed(order) if reverse else order:
                state, kept[index] = at(state, index)
            return state, _stacked(kept)
        # Scanned by number: Keras's scan over several arrays of unknown length
        # fails on TensorFlow.
        numbers = ops.arange(self.number, dtype="int32")
        return ops.scan(at, initial, numbers, reverse=reverse)


def _only(x: Tensor) -> Tensor:
    # DTensor answers `x[0]` with other entries where another axis is sharded.
    return ops.squeeze(x, 0)


def _as_only(x: Tensor) -> Tensor:
    return ops.expand_dims(x, 0)


def _stacked(results: list) -> Any:
    """Stacks the results of an unrolled loop, the only kind DTensor has."""
    return keras.tree.map_structure(lambda *x: ops.stack(x), *results)


def _divide(length: int | Tensor, size: int | Tensor) -> int | Tensor:
    """Returns how many pieces of a size cover `length`; at least 1."""
    if isinstance(length, int) and isinstance(size, int):
        return max(1, -(-length // size))
    return ops.maximum(-(-length // size), 1)
