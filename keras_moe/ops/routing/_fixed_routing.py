"""Routing that nothing learns: the experts of each token are given."""

from keras import ops

from keras_moe.backend import value_now
from keras_moe.ops.routing._checks import check_capacity
from keras_moe.ops.routing._checks import check_padding_mask
from keras_moe.ops.routing._gates import gates_of_slots
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.ops.routing._seating import seat_choices
from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor
from keras_moe.validation import check_size


def fixed_routing(
    expert_index: Tensor,
    num_experts: int,
    expert_capacity: int | Tensor | None = None,
    padding_mask: Tensor | None = None,
) -> RoutingPlan:
    """Plans routing to experts that a hash, or anything else, has chosen.

    The k experts of a token weigh 1 / k each. First choices take slots first,
    in order of position; what comes after an expert is full is dropped.

    Source: Hash Layers, arXiv:2106.04426, section 3.

    Args:
        expert_index: int `[groups, tokens]` or `[groups, tokens, k]`; the
            experts of one token must differ. `num_experts` marks a choice
            that is not made, and so does in a graph any other number that is
            no expert's.
        num_experts: number of experts.
        expert_capacity: slots of an expert in a group; `None` is dropless.
        padding_mask: bool `[groups, tokens]`, false for padding, which is not
            routed and takes no slot.

    Returns:
        A `RoutingPlan`, whose `probabilities` are the mean one-hot of the
        choices.

    Raises:
        ValueError: if `expert_index` is not of rank 2 or 3, `padding_mask` is
            not of its first two axes, `num_experts` or `expert_capacity` is
            below 1; when eager, for an index that is no expert's.

    Example:

    >>> plan = keras_moe.ops.fixed_routing(np.array([[1, 0, 1]]), num_experts=2)
    >>> plan.token_index.numpy()[0]
    array([[1, 3],
           [0, 2]], dtype=int32)
    """
    expert_index = ops.convert_to_tensor(expert_index)
    check_capacity(expert_capacity)
    check_size(num_experts=num_experts)
    if len(expert_index.shape) not in ((3, 4) if is_sharded() else (2, 3)):
        raise ValueError(
            "`expert_index` must have the shape [groups, tokens] or [groups, "
            "tokens, choices]. Received: expert_index.shape="
            f"{tuple(expert_index.shape)}."
        )
    check_padding_mask(padding_mask, expert_index)
    _check_experts(expert_index, num_experts)
    expert = ops.cast(expert_index, "int32")
    if len(expert.shape) == 2:
        expert = ops.expand_dims(expert, -1)
    # Indices beyond the last expert would reach the slots of other groups.
    exists = ops.logical_and(expert >= 0, expert < num_experts)
    expert = ops.where(exists, expert, num_experts)
    if padding_mask is not None:
        real = ops.expand_dims(ops.cast(padding_mask, "bool"), -1)
        expert = ops.where(real, expert, num_experts)
    *groups, tokens, choices = ops.shape(expert)
    chosen = ops.one_hot(expert, num_experts, dtype="float32")  # [g, s, k, e]

    token = ops.reshape(ops.arange(tokens, dtype="int32"), (-1, 1))
    turn = ops.arange(choices, dtype="int32") * tokens + token
    ask_index, slot_index = seat_choices(
        expert,
        ops.broadcast_to(turn, (*groups, tokens, choices)),
        num_experts,
        expert_capacity,
    )
    gates = ops.ones_like(expert, dtype="float32") / choices
    return RoutingPlan(
        token_index=ask_index // choices,
        combine_weight=gates_of_slots(gates, ask_index, slot_index),
        probabilities=ops.mean(chosen, axis=-2),
        slot_index=slot_index,
        expert_index=expert,
    )


def _check_experts(expert_index: Tensor, num_experts: int) -> None:
    value = value_now(expert_index)
    if value is None or not value.size:
        return
    if value.min() < 0 or value.max() > num_experts:
        raise ValueError(
            f"`expert_index` must hold numbers from 0 to {num_experts - 1}, or "
            f"{num_experts} for a choice that is not made. Received: from "
            f"{value.min()} to {value.max()}."
        )
