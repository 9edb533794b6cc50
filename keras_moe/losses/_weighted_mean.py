"""The mean of costs over examples or tokens."""

from keras import ops

from keras_moe.types import Tensor


def weighted_mean(
    values: Tensor,
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Returns `sum(values * sample_weight) / number`, without padding.

    As in Keras, the number is that of the values, not the sum of the weights:
    an example of weight 0 makes the mean smaller.

    Args:
        values: `[batch]` or `[batch, length]`.
        mask: bool, of the same shape; false for padding, which may hold
            anything.
        sample_weight: of the same shape, or `[batch]` or `[batch, 1]`, one
            for each example.

    Returns:
        A float32 scalar; 0 if there is no value.

    Raises:
        ValueError: if the weights have more axes than the values.

    Example:

    >>> values, weights = np.array([[1.0, 3.0], [2.0, 0.0]]), [1.0, 0.5]
    >>> mask = [[True, True], [True, False]]
    >>> loss = keras_moe.losses.weighted_mean(values, mask, weights)
    >>> round(float(loss), 4)  # (1 + 3 + 0.5 * 2) / 3
    1.6667
    """
    values = ops.cast(values, "float32")
    real = ops.ones_like(values)
    if mask is not None:
        real = ops.cast(mask, "float32")
        values = ops.where(real > 0, values, 0.0)
    number = ops.maximum(ops.sum(real), 1.0)
    if sample_weight is not None:
        weights = ops.cast(sample_weight, "float32")
        given, wanted = len(weights.shape), len(values.shape)
        if given == wanted + 1 and weights.shape[-1] == 1:
            weights, given = ops.squeeze(weights, -1), wanted
        if given > wanted:
            raise ValueError(
                "`sample_weight` must have at most the axes of the values "
                f"that it weighs, {wanted}. Received: shape="
                f"{tuple(weights.shape)}."
            )
        for _ in range(wanted - given):
            weights = ops.expand_dims(weights, -1)
        values = values * weights
    return ops.sum(values) / number
