"""A cache of keys and values of a fixed size."""

from typing import NamedTuple

from keras import ops

from keras_moe.backend import shapes_must_be_static
from keras_moe.types import Tensor


class KeyValueCache(NamedTuple):
    """Projected keys and values, in arrays with room for all positions.

    A `keras_moe.layers.AttentionCache` whose shapes do not change from step to
    step, as XLA demands.

    Attributes:
        position: int32 scalar, the number of positions so far.
        keys: `(batch, num_heads, max_length, key_dim)`.
        values: the same of values.

    Example:

    >>> before = keras_moe.layers.KeyValueCache.empty(
    ...     batch_size=1, num_heads=2, max_length=8, key_dim=4, dtype="float32"
    ... )
    >>> three = np.ones([1, 2, 3, 4], "float32")
    >>> after = before.append(three, three)
    >>> int(before.position), int(after.position)
    (0, 3)
    """

    position: Tensor
    keys: Tensor
    values: Tensor

    @classmethod
    def empty(
        cls,
        batch_size: int | Tensor,
        num_heads: int,
        max_length: int,
        key_dim: int,
        dtype: str,
    ) -> "KeyValueCache":
        """Returns the cache before the first position."""
        shape = (batch_size, num_heads, max_length, key_dim)
        zeros = ops.zeros(shape, dtype=dtype)
        return cls(ops.zeros((), dtype="int32"), zeros, zeros)

    def append(self, keys: Tensor, values: Tensor) -> "KeyValueCache":
        """Returns the cache with further positions.

        Args:
            keys: `(batch, num_heads, positions, key_dim)`.
            values: the same of values.
        """
        if keys.shape[2] == 1 and not shapes_must_be_static():
            # An update of a slice is an operation of XLA: TensorFlow compiles
            # it by itself where nothing else is, which servers may forbid.
            slot = ops.arange(self.keys.shape[2], dtype="int32")
            here = ops.reshape(slot == self.position, (1, 1, -1, 1))
            return KeyValueCache(
                self.position + 1,
                ops.where(here, keys, self.keys),
                ops.where(here, values, self.values),
            )
        start = (0, 0, self.position, 0)
        return KeyValueCache(
            self.position + ops.shape(keys)[2],
            ops.slice_update(self.keys, start, keys),
            ops.slice_update(self.values, start, values),
        )

    def read(self, num_queries: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns keys, values and mask that the last positions attend to.

        Args:
            num_queries: number of positions that attend, the last ones.

        Returns:
            Keys and values, `(batch, num_heads, keys, key_dim)`, and which of
            them each query may see, bool `(queries, keys)`; `None` for all.
        """
        visible = causal_mask(self.position, num_queries, self.keys.shape[2])
        return self.keys, self.values, visible

    def rewind(self, position: Tensor) -> "KeyValueCache":
        """Returns the cache as it was at an earlier position."""
        return self._replace(position=position)


def causal_mask(position: Tensor, num_queries: int, num_keys: int) -> Tensor:
    """Returns which keys the last `num_queries` of `position` positions see."""
    slot = ops.arange(num_keys, dtype="int32")
    if num_queries == 1:
        return ops.expand_dims(slot < position, 0)
    query = position - num_queries + ops.arange(num_queries, dtype="int32")
    return ops.expand_dims(slot, 0) <= ops.expand_dims(query, 1)
