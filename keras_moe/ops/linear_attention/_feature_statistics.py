"""Statistics of queries and keys."""

from keras import ops

from keras_moe.types import Tensor


def masked_moments(
    x: Tensor, visible: Tensor | None, dense: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the number of vectors, their mean and their second moment.

    Args:
        x: float32 `[b, n, g, t, dim]`.
        visible: bool `[b, 1, 1, t]`, or `None`. Hidden vectors are left out.
        dense: whether products of different dimensions are wanted.

    Returns:
        A scalar, `[n, dim]`, and `[n, dim, dim]` (or `[n, dim]`).
    """
    batch, heads, group, length, dim = ops.shape(x)
    if visible is None:
        count = ops.cast(batch * group * length, "float32")
    else:
        x = ops.where(visible[..., None], x, 0.0)
        count = ops.sum(ops.cast(visible, "float32")) * group
    divisor = ops.maximum(count, 1.0)
    mean = ops.sum(x, axis=(0, 2, 3)) / divisor
    if not dense:
        return count, mean, ops.sum(ops.square(x), axis=(0, 2, 3)) / divisor
    rows = ops.reshape(
        ops.transpose(x, (1, 0, 2, 3, 4)), (heads, batch * group * length, dim)
    )
    products = ops.matmul(ops.transpose(rows, (0, 2, 1)), rows)
    return count, mean, products / divisor
