"""The memory of softmax attention: an encoder's keys and values."""

from typing import NamedTuple

from keras_moe.types import Tensor


class AttentionMemory(NamedTuple):
    """Projected keys and values of an encoder's output.

    Attributes:
        keys: `(batch, num_heads, key_dim, length)`: a product with one query
            takes half as long as it does by the transpose.
        values: `(batch, num_heads, length, key_dim)`.
        mask: bool `(batch, length)`, false for padding.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
