"""Carrying out a routing plan: tokens to slots, and slots back to tokens."""

from keras import ops

from keras_moe.ops.batched_take import batched_take
from keras_moe.ops.routing_plan import RoutingPlan
from keras_moe.types import Tensor


def gather_dispatch(tokens: Tensor, plan: RoutingPlan) -> Tensor:
    """Copies each token into its slots.

    Args:
        tokens: `[groups, tokens, dim]`.
        plan: the routing plan.

    Returns:
        `[groups, experts, slots, dim]`; an empty slot is zero.
    """
    return batched_take(_with_zero_row(tokens), plan.token_index)


def gather_combine(expert_outputs: Tensor, plan: RoutingPlan) -> Tensor:
    """Sums the weighted expert outputs of each token.

    Args:
        expert_outputs: `[groups, experts, slots, dim]`.
        plan: the routing plan that dispatched the tokens.

    Returns:
        `[groups, tokens, dim]` in the dtype of `expert_outputs`; exactly zero
        for a token that no expert took.
    """
    groups, experts, slots, _ = ops.shape(expert_outputs)
    dim = expert_outputs.shape[-1]
    weight = ops.cast(plan.combine_weight, expert_outputs.dtype)
    weighted = expert_outputs * ops.expand_dims(weight, -1)
    weighted = ops.reshape(weighted, (groups, experts * slots, dim))
    # [g, s, k, d]
    chosen = batched_take(_with_zero_row(weighted), plan.slot_index)
    return ops.sum(chosen, axis=2)


def _with_zero_row(x: Tensor) -> Tensor:
    """Appends the row that the sentinel index points to."""
    return ops.pad(x, ((0, 0), (0, 1), (0, 0)))
