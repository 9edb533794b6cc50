"""Statistics of a routing plan."""

from keras import ops

from keras_moe.ops import RoutingPlan
from keras_moe.ops.routing._count_choices import count_choices
from keras_moe.ops.routing._soft_routing_plan import SoftRoutingPlan
from keras_moe.types import Tensor


def routing_statistics(
    plan: RoutingPlan | SoftRoutingPlan, padding_mask: Tensor | None = None
) -> dict[str, Tensor]:
    """Returns the statistics of one batch, named as T5X names them.

    For how the tokens spread over the experts see `expert_counts` and
    `ExpertLoad`.

    Args:
        plan: the routing plan.
        padding_mask: bool `[groups, tokens]`, false for padding, which counts
            nowhere.

    Returns:
        float32 scalars: `fraction_tokens_left_behind`, the share of tokens
        that no expert took; `router_confidence`, the mean combine weight of
        the choices that were carried out; `expert_usage`, the share of slots
        that were filled; `router_entropy`, the mean entropy of a token's
        probabilities (scaled to sum to 1), in nats, from 0 to
        `log(num_experts)`.

        A soft plan drops nobody and fills every slot. Its
        `router_confidence` is the mean weight of the expert that weighs most
        in a token's output.

    Example:

    >>> plan = keras_moe.ops.top_k_routing(np.zeros((1, 4, 2)), 1, 3)
    >>> said = keras_moe.metrics.routing_statistics(plan)
    >>> float(said["fraction_tokens_left_behind"])
    0.25
    >>> round(float(said["router_entropy"]), 4)  # log 2
    0.6931
    """
    real = _real_tokens(plan.probabilities, padding_mask)
    tokens = ops.sum(real)
    if isinstance(plan, SoftRoutingPlan):
        weight = ops.sum(plan.combine_weight, axis=-1)
        # `initial` gives an empty batch a maximum.
        weight = ops.max(weight, axis=-1, initial=0.0)
        left_behind = ops.zeros_like(tokens)
        confidence = ops.divide_no_nan(ops.sum(weight * real), tokens)
        usage = ops.ones_like(tokens)
    else:
        num_tokens = ops.shape(plan.probabilities)[-2]
        slots = ops.shape(plan.token_index)
        filled = ops.sum(ops.cast(plan.token_index < num_tokens, "float32"))
        # A token is left behind only if all its choices are: count tokens, not
        # choices.
        taken = ops.any(plan.slot_index < slots[-2] * slots[-1], axis=-1)
        routed = ops.sum(ops.cast(taken, "float32"))
        left_behind = ops.divide_no_nan(tokens - routed, tokens)
        confidence = ops.divide_no_nan(ops.sum(plan.combine_weight), filled)
        # An empty batch may have no slot.
        usage = ops.divide_no_nan(
            filled, ops.cast(ops.size(plan.token_index), "float32")
        )
    return {
        "fraction_tokens_left_behind": left_behind,
        "router_confidence": confidence,
        "expert_usage": usage,
        "router_entropy": _mean_entropy(plan.probabilities, real),
    }


def expert_counts(
    plan: RoutingPlan | SoftRoutingPlan, padding_mask: Tensor | None = None
) -> Tensor:
    """Returns how many tokens asked for each expert, before any is dropped.

    Padding and choices that a policy refused do not count. In a soft plan,
    where all experts have equally many slots, an expert counts as much as it
    weighs in the tokens' outputs.

    Args:
        plan: the routing plan.
        padding_mask: bool `[groups, tokens]`, false for padding.

    Returns:
        float32 `[experts]`.

    Example:

    >>> plan = keras_moe.ops.top_k_routing(np.zeros((1, 4, 2)), 1, 3)
    >>> keras_moe.metrics.expert_counts(plan).numpy()
    array([4., 0.], dtype=float32)
    """
    num_experts = plan.probabilities.shape[-1]
    real = _real_tokens(plan.probabilities, padding_mask)
    real = ops.expand_dims(real, -1)  # [g, s, 1]
    if isinstance(plan, SoftRoutingPlan):
        weight = ops.sum(plan.combine_weight, axis=-1)  # [g, s, e]
        weight = ops.where(real > 0, weight, 0.0)
        return ops.sum(weight, axis=range(len(weight.shape) - 1))
    chosen = ops.where(real > 0, plan.expert_index, num_experts)
    counts = count_choices(chosen, num_experts)
    return ops.sum(counts, axis=range(len(counts.shape) - 1))


def _real_tokens(like: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Returns float32 `[groups, tokens]`: 1 for a token, 0 for padding."""
    if padding_mask is None:
        return ops.ones_like(like[..., 0], dtype="float32")
    return ops.cast(padding_mask, "float32")


def _mean_entropy(probabilities: Tensor, real: Tensor) -> Tensor:
    # Expert choice may have scores that sum to 1 over tokens instead.
    total = ops.sum(probabilities, axis=-1, keepdims=True)
    probabilities = ops.divide_no_nan(probabilities, total)
    # 0 log 0 would be NaN, and padding may hold NaN.
    counts = ops.logical_and(ops.expand_dims(real, -1) > 0, probabilities > 0)
    safe = ops.where(counts, probabilities, 1.0)
    entropy = -ops.sum(safe * ops.log(safe))
    return ops.divide_no_nan(entropy, ops.sum(real))
