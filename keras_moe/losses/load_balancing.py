"""The auxiliary loss that spreads tokens over experts."""

from keras import ops

from keras_moe.types import Tensor


def load_balancing_loss(
    probabilities: Tensor, padding_mask: Tensor | None = None
) -> Tensor:
    """Returns the load-balancing loss of Switch routing.

    `E * sum_e f_e * P_e`, where `f_e` is the share of tokens whose most
    probable expert is e, before any is dropped, and `P_e` the mean
    probability of e. Perfectly even routing gives 1.0, collapse onto one
    expert gives E. Only `P` carries a gradient. Padding enters neither mean;
    groups weigh as many tokens as they hold.

    Source: Switch Transformers, arXiv:2101.03961, equations 4 to 6 (without
    the factor alpha).

    Args:
        probabilities: float32 `[groups, tokens, experts]`.
        padding_mask: bool `[groups, tokens]`, false for padding.

    Returns:
        A float32 scalar; 0 if there is no token at all.

    Example:

    >>> even = np.array([[[0.6, 0.4], [0.4, 0.6]]])
    >>> float(keras_moe.losses.load_balancing_loss(even))
    1.0
    """
    probabilities = ops.cast(probabilities, "float32")
    num_experts = probabilities.shape[-1]
    chosen = ops.one_hot(
        ops.argmax(probabilities, axis=-1), num_experts, dtype="float32"
    )
    real = token_weights(probabilities, padding_mask)  # [g, s, 1]
    # Not by the product: padding may hold what is not a number.
    probabilities = ops.where(real > 0, probabilities, 0.0)
    count = ops.sum(real, axis=1)  # [g, 1]
    mean = 1.0 / ops.maximum(count, 1.0)
    fraction = ops.sum(chosen * real, axis=1) * mean  # [g, e]
    proxy = ops.sum(probabilities, axis=1) * mean  # [g, e]
    per_group = num_experts * ops.sum(fraction * proxy, axis=-1)  # [g]
    share = count[:, 0] / ops.maximum(ops.sum(count), 1.0)
    return ops.sum(per_group * share)


def token_weights(like: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Returns float32 `[groups, tokens, 1]`: 1 for a token, 0 for padding."""
    if padding_mask is None:
        return ops.ones_like(like[..., :1], dtype="float32")
    return ops.expand_dims(ops.cast(padding_mask, "float32"), -1)
