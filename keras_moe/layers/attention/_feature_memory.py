"""The memory of attention with random features: an encoder's output."""

from typing import NamedTuple

from keras_moe.ops.linear_attention._state import LinearAttentionState
from keras_moe.types import Tensor


class FeatureMemory(NamedTuple):
    """What queries to come need of keys and values.

    Attributes:
        sums: over the keys, of a size that does not grow with them.
        keys: `(batch, heads, 1, length, key_dim)`, the keys themselves where
            attention to them is exact; else none, a length of 0.
        values: the same of values.
        mask: bool `(batch, 1, 1, length)`, false for padding.
    """

    sums: LinearAttentionState
    keys: Tensor
    values: Tensor
    mask: Tensor
