"""The diagonal of square matrices."""

from keras import ops

from keras_moe.types import Tensor


def matrix_diagonal(x: Tensor) -> Tensor:
    """Returns the diagonals `[..., n]` of `[..., n, n]`.

    Not `ops.diagonal`, which TensorFlow cannot spread over devices.
    """
    on_diagonal = ops.eye(x.shape[-1], dtype="bool")
    return ops.sum(ops.where(on_diagonal, x, ops.zeros_like(x)), axis=-1)
