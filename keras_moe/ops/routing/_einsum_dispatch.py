"""Carrying out a routing plan by products with one-hot arrays.

The work is `groups * tokens * experts * slots * dim`, quadratic in the tokens
of a group: best on TPUs with small groups, and the only way for soft plans.
"""

from keras import ops

from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.ops.routing._soft_routing_plan import SoftRoutingPlan
from keras_moe.types import Tensor


def einsum_dispatch(
    tokens: Tensor, plan: RoutingPlan | SoftRoutingPlan
) -> Tensor:
    """Copies or mixes tokens into slots.

    Args:
        tokens: `[groups, tokens, dim]`, finite also where padding is.
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
        for a token that no expert took.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0]]])  # both want expert 0
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> outputs = np.ones([1, 2, 1, 3], "float32")
    >>> keras_moe.ops.einsum_combine(outputs, plan).numpy()[0, 1]  # dropped
    array([0., 0., 0.], dtype=float32)
    """
    combine = ops.cast(plan.combine_array(), expert_outputs.dtype)
    g = _group_letters(expert_outputs[..., 0])
    return ops.einsum(f"{g}sec,{g}ecd->{g}sd", combine, expert_outputs)


def _group_letters(like: Tensor) -> str:
    # DTensor's einsum does not know the ellipsis.
    return "bg"[-(len(like.shape) - 2) :]
