"""Short sequences, without the ceremony of long ones."""

from collections.abc import Callable

import keras
from keras import ops

from keras_moe.types import Tensor


def apply_dense(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns `layer(x)`, by one product of matrices.

    For three axes TensorFlow takes a general tensor product: some twenty
    operations around one product, which cost a small decoder more than the
    product itself when it computes a position at a time.

    Args:
        layer: a dense layer.
        x: `(batch, length, dim)`.

    Returns:
        `(batch, length, units)`.
    """
    if len(x.shape) != 3 or isinstance(x, keras.KerasTensor):
        return layer(x)
    if x.shape[1] == 1:
        return ops.expand_dims(layer(ops.squeeze(x, 1)), 1)
    if x.shape[1] is None:
        batch, length, dim = ops.shape(x)
        y = layer(ops.reshape(x, (-1, dim)))
        return ops.reshape(y, (batch, length, y.shape[-1]))
    return layer(x)


def last_positions(x: Tensor, count: int) -> Tensor:
    """Returns the last positions of `(batch, length, dim)`.

    Of a static number, even where `length` is not known.

    Args:
        x: `(batch, length, dim)`.
        count: how many.
    """
    if x.shape[1] == count:
        return x
    if count == 1:
        return ops.expand_dims(x[:, -1], 1)
    return x[:, -count:]
