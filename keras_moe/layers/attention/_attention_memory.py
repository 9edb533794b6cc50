"""The memory of softmax attention: an encoder's keys and values."""

from typing import NamedTuple

from keras_moe.types import Tensor


class AttentionMemory(NamedTuple):
    """Projected keys and values of an encoder's output.

    Attributes:
        keys: `(batch, num_heads, length, key_dim)`.
        values: the same of values.
        mask: bool `(batch, length)`, false for padding.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
