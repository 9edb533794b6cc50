"""Softmax over an axis that may have one entry."""

from keras import ops

from keras_moe.types import Tensor


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Returns `keras.ops.softmax`, over an axis of size 1, too.

    There Keras warns that the result is 1 everywhere, which one expert, one
    token or one key are meant to have: once for each shape that is traced.

    Args:
        x: logits.
        axis: over which the result sums to 1.
    """
    if x.shape[axis] == 1:
        return ops.ones_like(x) + 0.0 * x  # NaN stays NaN
    return ops.softmax(x, axis=axis)
