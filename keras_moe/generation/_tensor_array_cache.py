"""A cache of keys and values that grows, for TensorFlow's graphs."""

from typing import NamedTuple

import tensorflow as tf

from keras_moe.layers.attention._key_value_cache import causal_mask
from keras_moe.types import Tensor


class TensorArrayCache(NamedTuple):
    """Projected keys and values, one tensor a position.

    A `keras_moe.layers.AttentionCache`. A step writes the new position alone,
    where `keras_moe.layers.KeyValueCache` is copied as a whole. Not for XLA,
    since shapes grow.

    Attributes:
        position: int32 scalar, the number of positions so far.
        keys: a `tf.TensorArray` of `(batch, num_heads, key_dim)`.
        values: the same of values.
    """

    position: Tensor
    keys: tf.TensorArray
    values: tf.TensorArray

    @classmethod
    def empty(
        cls,
        batch_size: int | Tensor,
        num_heads: int,
        max_length: int,
        key_dim: int,
        dtype: str,
    ) -> "TensorArrayCache":
        """Returns the cache before the first position."""
        del batch_size  # written tensors bring theirs
        keys, values = (
            tf.TensorArray(
                dtype,
                max_length,
                clear_after_read=False,
                element_shape=(None, num_heads, key_dim),
            )
            for _ in range(2)
        )
        return cls(tf.zeros((), tf.int32), keys, values)

    def append(self, keys: Tensor, values: Tensor) -> "TensorArrayCache":
        """Returns the cache with further positions.

        Args:
            keys: `(batch, num_heads, positions, key_dim)`.
            values: the same of values.
        """
        if keys.shape[2] == 1:
            return TensorArrayCache(
                self.position + 1,
                self.keys.write(self.position, keys[:, :, 0]),
                self.values.write(self.position, values[:, :, 0]),
            )
        after = self.position + tf.shape(keys)[2]
        slots = tf.range(self.position, after)
        return TensorArrayCache(
            after,
            self.keys.scatter(slots, tf.transpose(keys, (2, 0, 1, 3))),
            self.values.scatter(slots, tf.transpose(values, (2, 0, 1, 3))),
        )

    def read(self, num_queries: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns what the last positions attend to.

        Args:
            num_queries: number of positions that attend, the last ones.

        Returns:
            Keys and values, `(batch, num_heads, keys, key_dim)`, and which of
            them each query may see, bool `(queries, keys)`; `None` for all.
        """
        slots = tf.range(self.position)
        keys, values = (
            tf.transpose(array.gather(slots), (1, 2, 0, 3))
            for array in (self.keys, self.values)
        )
        if num_queries == 1:
            return keys, values, None
        return (
            keys,
            values,
            causal_mask(self.position, num_queries, self.position),
        )

    def rewind(self, position: Tensor) -> "TensorArrayCache":
        """Returns the cache as it was at an earlier position."""
        return self._replace(position=position)
