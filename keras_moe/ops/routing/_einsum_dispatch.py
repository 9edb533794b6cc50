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
        tokens: `[groups, tokens, dim]`.
        plan: the routing plan.

    Returns:
        `[groups, experts, slots, dim]`; an empty slot is zero, one that holds
        a token that is not finite is NaN.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [0.0, 3.0]]])  # a token for each expert
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> tokens = np.array([[[1.0, 1.0], [2.0, 2.0]]], "float32")
    >>> keras_moe.ops.einsum_dispatch(tokens, plan).numpy()[0, :, 0]
    array([[1., 1.],
           [2., 2.]], dtype=float32)
    """
    dispatch = ops.cast(plan.dispatch_array(), tokens.dtype)
    g = _group_letters(tokens)
    return _product(dispatch, tokens, f"{g}sec", f"{g}s", f"{g}ec")


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
    outputs = _product(combine, expert_outputs, f"{g}sec", f"{g}ec", f"{g}s")
    # Broken tokens sit in no slot. Zeros would hide that a router is NaN.
    return ops.where(broken_rows(plan.probabilities), np.nan, outputs)


def _product(
    weight: Tensor, rows: Tensor, axes: str, taken: str, given: str
) -> Tensor:
    """Sums weighted rows; those of weight 0 have no say.

    In a plain product 0 times NaN is NaN: one row that is not finite, such as
    one that overflows float16, would spoil all rows of its group.
    """
    finite = ops.all(ops.isfinite(rows), axis=-1, keepdims=True)
    rows = ops.where(finite, rows, ops.zeros_like(rows))
    summed = ops.einsum(f"{axes},{taken}d->{given}d", weight, rows)
    broken = ops.cast(ops.logical_not(finite), weight.dtype)
    reached = ops.einsum(
        f"{axes},{taken}d->{given}d",
        ops.cast(weight != 0.0, weight.dtype),
        broken,
    )
    return ops.where(reached > 0.0, np.nan, summed)


def _group_letters(like: Tensor) -> str:
    # DTensor's einsum does not know the ellipsis.
    return "bg"[-(len(like.shape) - 2) :]
