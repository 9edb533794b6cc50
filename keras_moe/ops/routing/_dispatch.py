"""Carrying out a routing plan: tokens to slots, and slots back to tokens."""

from typing import Any

from keras import ops

from keras_moe.ops._batched_take import batched_take
from keras_moe.ops.routing._broken_rows import broken_rows
from keras_moe.ops.routing._broken_rows import with_sentinel_rows
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.types import Tensor


def gather_dispatch(tokens: Tensor, plan: RoutingPlan) -> Tensor:
    """Copies each token into its slots.

    Args:
        tokens: `[groups, tokens, dim]`.
        plan: the routing plan.

    Returns:
        `[groups, experts, slots, dim]`; an empty slot is zero.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [0.0, 3.0]]])  # a token for each expert
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> tokens = np.array([[[1.0, 1.0], [2.0, 2.0]]], "float32")
    >>> keras_moe.ops.gather_dispatch(tokens, plan).numpy()[0, :, 0]
    array([[1., 1.],
           [2., 2.]], dtype=float32)
    """
    plan = with_slots(plan)
    return tokens_to_slots(tokens, plan.token_index, plan.slot_index)


def gather_combine(expert_outputs: Tensor, plan: RoutingPlan) -> Tensor:
    """Sums the weighted expert outputs of each token.

    Args:
        expert_outputs: `[groups, experts, slots, dim]`.
        plan: the routing plan that dispatched the tokens.

    Returns:
        `[groups, tokens, dim]` in the dtype of `expert_outputs`; exactly zero
        for a token that no expert took, NaN for one without probabilities.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0]]])  # both want expert 0
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> outputs = np.ones([1, 2, 1, 3], "float32")
    >>> keras_moe.ops.gather_combine(outputs, plan).numpy()[0, 1]  # dropped
    array([0., 0., 0.], dtype=float32)
    """
    plan = with_slots(plan)
    weight = ops.cast(plan.combine_weight, expert_outputs.dtype)
    weighted = expert_outputs * ops.expand_dims(weight, -1)
    broken = broken_rows(plan.probabilities)
    return slots_to_tokens(weighted, plan.token_index, plan.slot_index, broken)


def with_slots(plan: Any) -> RoutingPlan:
    """Returns the plan; raises `ValueError` if it is a soft one."""
    if not isinstance(plan, RoutingPlan):
        raise ValueError(
            "A soft plan has no slot table: only dispatch='einsum' can carry "
            f"it out. Received: a {type(plan).__name__}."
        )
    return plan


def tokens_to_slots(
    tokens: Tensor, token_index: Tensor, slot_index: Tensor
) -> Tensor:
    """Gathers `[g, s, d]` into `[g, e, c, d]`.

    Its transpose is `slots_to_tokens`, and so is its gradient: no scatter on
    either way. Scatter is slow under XLA and wrong under DTensor.
    """

    @ops.custom_gradient
    def gather(x):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return _gather_tokens(upstream, slot_index)

        return _gather_slots(x, token_index), gradient

    return gather(tokens)


def slots_to_tokens(
    slots: Tensor,
    token_index: Tensor,
    slot_index: Tensor,
    broken: Tensor | None = None,
) -> Tensor:
    """Gathers `[g, e, c, d]` into `[g, s, d]`, summed over choices.

    Its transpose is `tokens_to_slots`, and so is its gradient.
    """

    @ops.custom_gradient
    def gather(x):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return _gather_slots(upstream, token_index)

        return _gather_tokens(x, slot_index, broken), gradient

    return gather(slots)


def _gather_slots(tokens: Tensor, token_index: Tensor) -> Tensor:
    groups = len(token_index.shape) - 2
    return batched_take(with_sentinel_rows(tokens), token_index, groups)


def _gather_tokens(
    slots: Tensor, slot_index: Tensor, broken: Tensor | None = None
) -> Tensor:
    *groups, experts, capacity, _ = ops.shape(slots)
    flat = ops.reshape(slots, (*groups, experts * capacity, slots.shape[-1]))
    if broken is None:
        rows = with_sentinel_rows(flat)
    else:
        # Broken tokens sit in no slot: they read the row after the sentinel's.
        rows = with_sentinel_rows(flat, nan=True)
        slot_index = ops.where(broken, experts * capacity + 1, slot_index)
    # [g, s, k, d]
    chosen = batched_take(rows, slot_index, len(groups))
    return ops.sum(chosen, axis=-2)
