"""Carrying out a routing plan by products with one-hot arrays.

The work is `groups * tokens * experts * slots * dim`, quadratic in the tokens
of a group: best on TPUs with small groups, and the only way for soft plans.
"""

import numpy as np
from keras import ops

from keras_moe.ops.routing._broken_rows import broken_rows
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.ops.routing._soft_routing_plan import SoftRoutingPlan
from keras_moe.types import Tensor


def einsum_dispatch(
    tokens: Tensor, plan: RoutingPlan | SoftRoutingPlan
) -> Tensor:
    """Copies or mixes tokens into slots.

    Args:
        tokens: `[groups, tokens, dim]`, finite also where padding is; those
            without probabilities may hold anything.
        plan: the routing plan.

    Returns:
        `[groups, experts, slots, dim]`; an empty slot is zero.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [0.0, 3.0]]])  # a token for each expert
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> tokens = np.array([[[1.0, 1.0], [2.0, 2.0]]], "float32")
    >>> keras_moe.ops.einsum_dispatch(tokens, plan).numpy()[0, :, 0]
    array([[1., 1.],
           [2., 2.]], dtype=float32)
    """
    # Broken tokens sit in no slot, but 0 times NaN is NaN.
    tokens = ops.where(broken_rows(plan.probabilities), 0.0, tokens)
    dispatch = ops.cast(plan.dispatch_array(), tokens.dtype)
    g = _group_letters(tokens)
    return ops.einsum(f"{g}sec,{g}sd->{g}ecd", dispatch, tokens)


def einsum_combine(
    expert_outputs: Tensor, plan: RoutingPlan | SoftRoutingPlan
) -> Tensor:
    """Sums the weighted expert outputs of each token.

    Args:
        expert_outputs: `[groups, experts, slots, dim]`.
        plan: the routing plan that dispatched the tokens.

    Returns:
        `[groups, tokens, dim]` in the dtype of `expert_outputs`; exactly zero
        for a token that no expert took, NaN for one without probabilities or
        with a slot that is not finite.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0]]])  # both want expert 0
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> outputs = np.ones([1, 2, 1, 3], "float32")
    >>> keras_moe.ops.einsum_combine(outputs, plan).numpy()[0, 1]  # dropped
    array([0., 0., 0.], dtype=float32)
    """
    combine = ops.cast(plan.combine_array(), expert_outputs.dtype)
    g = _group_letters(expert_outputs[..., 0])
    # 0 times NaN is NaN: a slot that is not finite, such as one that overflows
    # float16, would spoil all tokens of its group.
    finite = ops.all(ops.isfinite(expert_outputs), axis=-1, keepdims=True)
    sound = ops.where(finite, expert_outputs, 0.0)
    outputs = ops.einsum(f"{g}sec,{g}ecd->{g}sd", combine, sound)
    spoilt = ops.cast(ops.logical_not(finite), combine.dtype)
    reached = ops.einsum(f"{g}sec,{g}ecd->{g}sd", combine, spoilt) != 0.0
    # Broken tokens sit in no slot. Zeros would hide that a router is NaN.
    broken = ops.logical_or(reached, broken_rows(plan.probabilities))
    return ops.where(broken, np.nan, outputs)


def _group_letters(like: Tensor) -> str:
    # DTensor's einsum does not know the ellipsis.
    return "bg"[-(len(like.shape) - 2) :]
