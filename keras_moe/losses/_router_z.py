"""The auxiliary loss that keeps router logits small."""

from keras import ops

from keras_moe.losses._load_balancing import token_weights
from keras_moe.types import Tensor


def router_z_loss(logits: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Returns the mean squared log-sum-exp of the router's logits.

    Source: ST-MoE, arXiv:2202.08906, equation 5 (without the factor c_z).

    Args:
        logits: float32 `[groups, tokens, experts]`.
        padding_mask: bool `[groups, tokens]`, false for padding, which does
            not enter the mean.

    Returns:
        A float32 scalar; 0 if there is no token at all.

    Example:

    >>> round(float(keras_moe.losses.router_z_loss(np.zeros((1, 5, 4)))), 4)
    1.9218
    """
    logits = ops.cast(logits, "float32")
    real = token_weights(logits, padding_mask)
    # Padding may hold NaN, which a product with 0 would not remove.
    logits = ops.where(real > 0, logits, 0.0)
    squared = ops.square(ops.logsumexp(logits, axis=-1, keepdims=True))
    return ops.sum(squared * real) / ops.maximum(ops.sum(real), 1.0)
