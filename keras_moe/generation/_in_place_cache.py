"""A cache of keys and values that a decoding loop writes in place."""

import contextlib
from typing import NamedTuple

import tensorflow as tf

from keras_moe.layers.attention._key_value_cache import causal_mask
from keras_moe.types import Tensor

# Up to so many positions all are read, and those to come are hidden: to take
# the first ones out would copy them at each step.
_FEW_POSITIONS = 128


class InPlaceCache(NamedTuple):
    """Projected keys and values, of which a step writes its positions alone.

    A `keras_moe.layers.AttentionCache` for the library's own loops alone, since
    it is no value as others are: a cache and those that were made from it
    share their arrays. What is appended must follow from all that was read
    before, as the next token does: nothing else makes a graph read first. Of
    two caches made from one, the later spoils the earlier. `KeyValueCache`,
    which is copied as a whole at each step, has neither fault. A position past
    the last would be written into the next head's first. Not for XLA.

    Attributes:
        position: int32 scalar, the number of positions so far.
        keys: `(batch, num_heads, max_length, key_dim)`.
        values: the same of values.
        first_row: int32 `(batch * num_heads,)`, where each head's rows begin
            once all axes but the last are one.
    """

    position: Tensor
    keys: Tensor
    values: Tensor
    first_row: Tensor

    @classmethod
    def empty(
        cls,
        batch_size: int | Tensor,
        num_heads: int,
        max_length: int,
        key_dim: int,
        dtype: str,
    ) -> "InPlaceCache":
        """Returns the cache before the first position."""
        shape = (num_heads, max_length, key_dim)
        # Unlike zeros, no constant, which all calls would write to.
        keys, values = (
            _shaped(
                tf.raw_ops.Empty(
                    shape=tf.stack([batch_size, *shape]),
                    dtype=tf.as_dtype(dtype),
                    init=True,
                ),
                shape,
            )
            for _ in range(2)
        )
        first_row = tf.range(batch_size * num_heads) * max_length
        return cls(tf.zeros((), tf.int32), keys, values, first_row)

    def append(self, keys: Tensor, values: Tensor) -> "InPlaceCache":
        """Returns the cache with further positions.

        Args:
            keys: `(batch, num_heads, positions, key_dim)`.
            values: the same of values.
        """
        rows, count = self.first_row + self.position, keys.shape[2]
        if count != 1:
            count = tf.shape(keys)[2]
            rows = tf.reshape(rows[:, tf.newaxis] + tf.range(count), (-1,))
        return self._replace(
            position=self.position + count,
            keys=_write(self.keys, rows, keys),
            values=_write(self.values, rows, values),
        )

    def read(self, num_queries: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns what the last positions attend to.

        Args:
            num_queries: number of positions that attend, the last ones.

        Returns:
            Keys and values, `(batch, num_heads, keys, key_dim)`, and which of
            them each query may see, bool `(queries, keys)`; `None` for all.
        """
        length = self.keys.shape[2]
        if length <= _FEW_POSITIONS:
            visible = causal_mask(self.position, num_queries, length)
            return self.keys, self.values, visible
        keys, values = (
            each[:, :, : self.position] for each in (self.keys, self.values)
        )
        if num_queries == 1:
            return keys, values, None
        visible = causal_mask(self.position, num_queries, self.position)
        return keys, values, visible

    def rewind(self, position: Tensor) -> "InPlaceCache":
        """Returns the cache as it was at an earlier position."""
        return self._replace(position=position)


# Another library may have given the operation the same.
with contextlib.suppress(KeyError):

    @tf.RegisterGradient("InplaceUpdate")
    def _gradient(operation: tf.Operation, upstream: Tensor) -> tuple:
        """Returns the gradient of an array of which rows were replaced.

        What was read before a later write is looked at after it: those rows
        were hidden then, and hidden keys have no gradient.
        """
        rows, values = operation.inputs[1:]
        kept = tf.tensor_scatter_nd_update(
            upstream, rows[:, tf.newaxis], tf.zeros_like(values)
        )
        return kept, None, tf.gather(upstream, rows)


def _write(array: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    shape = array.shape[1:]
    written = tf.raw_ops.InplaceUpdate(
        x=tf.reshape(array, (-1, shape[-1])),
        i=rows,
        v=tf.reshape(values, (-1, shape[-1])),
    )
    return _shaped(written, shape)


def _shaped(array: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tf.reshape(array, (-1, *shape))
