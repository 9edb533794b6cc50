"""What a routing plan did to its tokens."""

from keras import ops

from keras_moe.ops import RoutingPlan
from keras_moe.types import Tensor


def routing_statistics(
    plan: RoutingPlan, padding_mask: Tensor | None = None
) -> dict[str, Tensor]:
    """Returns the statistics of one batch, named as T5X names them.

    Args:
        plan: the routing plan.
        padding_mask: bool `[groups, tokens]`, false for padding, which counts
            nowhere.

    Returns:
        float32 scalars: `fraction_tokens_left_behind`, the share of tokens
        that no expert took; `router_confidence`, the mean combine weight of
        the choices that were carried out; `expert_usage`, the share of slots
        that were filled.
    """
    slots = ops.cast(ops.size(plan.token_index), "float32")
    tokens = ops.shape(plan.probabilities)[1]
    filled = ops.sum(ops.cast(plan.token_index < tokens, "float32"))
    last_slot = ops.shape(plan.token_index)[1] * ops.shape(plan.token_index)[2]
    taken = ops.any(plan.slot_index < last_slot, axis=-1)
    routed = ops.sum(ops.cast(taken, "float32"))
    if padding_mask is None:
        real = ops.cast(ops.size(taken), "float32")
    else:
        real = ops.sum(ops.cast(padding_mask, "float32"))
    left_behind = (real - routed) / ops.maximum(real, 1.0)
    return {
        "fraction_tokens_left_behind": left_behind,
        "router_confidence": ops.sum(plan.combine_weight)
        / ops.maximum(filled, 1.0),
        "expert_usage": filled / slots,
    }
