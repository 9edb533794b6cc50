"""The contract of what attention keeps of the positions so far."""

from typing import Protocol
from typing import runtime_checkable

from keras_moe.types import Tensor


@runtime_checkable
class AttentionCache(Protocol):
    """Projected keys and values of the positions so far.

    `keras_moe.layers.KeyValueCache` is one, of a fixed size. Caches are values:
    `append` and `rewind` return another one and leave theirs as it is.

    Example:

    >>> cache = keras_moe.layers.KeyValueCache.empty(1, 2, 8, 4, "float32")
    >>> isinstance(cache, keras_moe.layers.AttentionCache)
    True
    """

    @property
    def position(self) -> Tensor:
        """The number of positions so far, an int32 scalar."""

    @classmethod
    def empty(
        cls,
        batch_size: int | Tensor,
        num_heads: int,
        max_length: int,
        key_dim: int,
        dtype: str,
    ) -> "AttentionCache":
        """Returns the cache before the first position.

        Args:
            batch_size: number of rows.
            num_heads: number of heads.
            max_length: number of positions to allot.
            key_dim: size of each head.
            dtype: of keys and values.
        """

    def append(self, keys: Tensor, values: Tensor) -> "AttentionCache":
        """Returns the cache with further positions.

        Args:
            keys: `(batch, num_heads, positions, key_dim)`.
            values: the same of values.
        """

    def read(self, num_queries: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns keys, values and mask that the last positions attend to.

        Args:
            num_queries: number of positions that attend, the last ones.

        Returns:
            Keys and values, `(batch, num_heads, keys, key_dim)`, and which of
            them each query may see, bool `(queries, keys)`; `None` for all.
        """

    def rewind(self, position: Tensor) -> "AttentionCache":
        """Returns the cache as it was at an earlier position.

        Args:
            position: int32 scalar, the number of positions to keep.
        """
