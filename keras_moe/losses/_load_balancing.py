"""The auxiliary loss that spreads tokens over experts."""

from keras import ops

from keras_moe.ops.routing._count_choices import count_choices
from keras_moe.types import Tensor


def load_balancing_loss(
    probabilities: Tensor,
    padding_mask: Tensor | None = None,
    expert_index: Tensor | None = None,
    across_replicas: bool = False,
) -> Tensor:
    """Returns the load-balancing loss of token-choice routing.

    `E * sum_e f_e * P_e`, where `f_e` is the share of all choices that fell
    on expert e, before any is dropped, and `P_e` the mean probability of e.
    Even routing gives 1.0 for any number k of choices; collapse of all tokens
    onto the same k experts gives `E / k`. Only `P` carries a gradient.
    Padding enters neither mean; groups are balanced each on its own and weigh
    as many tokens as they hold.

    Source: Switch Transformers, arXiv:2101.03961, equations 4 to 6 (without
    the factor alpha); for the balance of a global batch, arXiv:2501.11873.

    Args:
        probabilities: float32 `[groups, tokens, experts]`.
        padding_mask: bool `[groups, tokens]`, false for padding.
        expert_index: int `[groups, tokens, choices]`, the experts that each
            token asked for: `RoutingPlan.expert_index`. The number of experts
            marks a choice that was not made (the policy refused it); it
            counts nowhere. By default each token's most probable expert.
        across_replicas: balance the global batch instead of each group: `f`
            is taken over all groups of all replicas of `tf.distribute`, whose
            number of tokens may differ. The mean over replicas then equals
            the loss of one device that sees all tokens as one group, in value
            and in gradient. Without a strategy, all groups of the batch. The
            steps of gradient accumulation are not pooled.

    Returns:
        A float32 scalar; 0 if there is no token at all.

    Raises:
        ValueError: if `expert_index` does not have the axes of
            `[groups, tokens, choices]`.

    Example:

    >>> even = np.array([[[0.6, 0.4], [0.4, 0.6]]])
    >>> float(keras_moe.losses.load_balancing_loss(even))
    1.0
    """
    probabilities = ops.cast(probabilities, "float32")
    num_experts = probabilities.shape[-1]
    real = token_weights(probabilities, padding_mask)  # [g, s, 1]
    # Padding may hold NaN, which a product with 0 would not remove.
    probabilities = ops.where(real > 0, probabilities, 0.0)
    if expert_index is None:
        expert_index = ops.expand_dims(ops.argmax(probabilities, axis=-1), -1)
    expert_index = ops.cast(expert_index, "int32")
    if len(expert_index.shape) != len(probabilities.shape):
        raise ValueError(
            "`expert_index` must have the shape [groups, tokens, choices]. "
            f"Received: expert_index.shape={tuple(expert_index.shape)}."
        )
    expert_index = ops.where(real > 0, expert_index, num_experts)
    choices = count_choices(expert_index, num_experts)  # [g, e]
    mass = ops.sum(probabilities, axis=-2)  # [g, e]
    tokens = ops.sum(real, axis=-2)  # [g, 1]
    if across_replicas:
        choices, tokens = _mean_over_replicas(choices, tokens)
        # Divide by the mean number of tokens over replicas, not by each
        # replica's own: then a replica weighs as much as it has tokens.
        mass = _sum_over_groups(mass)
    fraction = ops.divide_no_nan(
        choices, ops.sum(choices, axis=-1, keepdims=True)
    )
    proxy = ops.divide_no_nan(mass, tokens)
    per_group = num_experts * ops.sum(fraction * proxy, axis=-1)  # [g]
    share = ops.divide_no_nan(tokens[..., 0], ops.sum(tokens))
    return ops.sum(per_group * share)


def token_weights(like: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Returns float32 `[groups, tokens, 1]`: 1 for a token, 0 for padding."""
    if padding_mask is None:
        return ops.ones_like(like[..., :1], dtype="float32")
    return ops.expand_dims(ops.cast(padding_mask, "float32"), -1)


def _sum_over_groups(x: Tensor) -> Tensor:
    """Returns `[1, n]` for `[g, n]`."""
    return ops.expand_dims(ops.sum(x, axis=range(len(x.shape) - 1)), 0)


def _mean_over_replicas(*counts: Tensor) -> list[Tensor]:
    """Sums `[g, n]` counts over groups and averages them over replicas."""
    local = _sum_over_groups(ops.concatenate(counts, axis=-1))
    # `moments` is the one public function of Keras that reduces over replicas.
    mean, _ = ops.moments(local, axes=[0], keepdims=True, synchronized=True)
    return ops.split(mean, [counts[0].shape[-1]], axis=-1)
