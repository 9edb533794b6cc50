"""Short sequences, without the ceremony of long ones."""

from collections.abc import Callable

import keras
from keras import ops

from keras_moe.backend import is_halved
from keras_moe.backend import product_in_halves
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
        return ops.expand_dims(_apply_to_rows(layer, ops.squeeze(x, 1)), 1)
    if x.shape[1] is not None and not _runs_in_halves(layer):
        return layer(x)
    batch, length, dim = ops.shape(x)
    y = _apply_to_rows(layer, ops.reshape(x, (-1, dim)))
    return ops.reshape(y, (batch, length, y.shape[-1]))


def _apply_to_rows(layer: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    if not isinstance(layer, keras.layers.Dense) or not _runs_in_halves(layer):
        return layer(rows)
    # As the layer itself would cast and compute.
    rows = ops.cast(rows, layer.compute_dtype)
    kernel = ops.cast(layer.kernel, layer.compute_dtype)
    return layer.activation(product_in_halves(rows, kernel))


def _runs_in_halves(layer: Callable[[Tensor], Tensor]) -> bool:
    if not isinstance(layer, keras.layers.Dense) or layer.use_bias:
        return False
    return layer.quantization_mode is None and is_halved(layer.kernel)


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
