"""Token-choice routing: each token asks for its best expert."""

from keras import ops

from keras_moe.compilation import shapes_must_be_static
from keras_moe.ops.batched_take import batched_take
from keras_moe.ops.dispatch import tokens_to_slots
from keras_moe.ops.routing_plan import RoutingPlan
from keras_moe.types import Tensor


def top_k_routing(
    logits: Tensor,
    num_selected_experts: int = 1,
    expert_capacity: int | Tensor | None = None,
    padding_mask: Tensor | None = None,
) -> RoutingPlan:
    """Plans Switch routing: each token goes to its most probable expert.

    Tokens take the slots of their expert in order of position; once an expert
    is full the rest are dropped. Ties go to the expert with the lowest index.
    The combine weight is the router's probability, not renormalised.

    Source: Switch Transformers, arXiv:2101.03961, section 2.1, with the
    semantics of the authors' code rather than of the paper's figure 15 (whose
    count is inclusive and leaves slot 0 of each expert unused).

    Args:
        logits: `[groups, tokens, experts]`; computed in float32 whatever the
            dtype.
        num_selected_experts: experts for each token, k. Only 1.
        expert_capacity: slots of an expert in a group, an int or an int32
            scalar tensor. `None` is dropless: as many slots as the fullest
            expert needs, or as there are tokens where shapes must be static
            (XLA).
        padding_mask: bool `[groups, tokens]`, false for padding, which is not
            routed and takes no slot.

    Returns:
        A `RoutingPlan`.

    Raises:
        ValueError: if `logits` is not of rank 3, `expert_capacity` is below 1
            or `num_selected_experts` is not 1.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]])
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> plan.token_index.numpy()[0]  # token 1 came too late; 3 would be empty
    array([[0],
           [2]], dtype=int32)
    """
    _check(logits, num_selected_experts, expert_capacity)
    logits = ops.cast(logits, "float32")
    probabilities = ops.softmax(logits, axis=-1)
    num_experts = logits.shape[-1]

    # The logits decide, not the probabilities: softmax can round two close
    # logits to one value.
    # Keras ranks 0.0 above -0.0, which would break a tie.
    ranked = ops.where(logits == 0.0, 0.0, logits)
    expert = ops.cast(ops.argmax(ranked, axis=-1), "int32")  # [g, s]
    # With `initial` an empty batch has a maximum, too.
    gate = ops.max(probabilities, axis=-1, initial=0.0)  # [g, s]
    if padding_mask is not None:
        padding_mask = ops.cast(padding_mask, "bool")
        expert = ops.where(padding_mask, expert, num_experts)

    return _fill_slots(
        expert, gate, probabilities, num_experts, expert_capacity
    )


def _fill_slots(
    expert: Tensor,
    gate: Tensor,
    probabilities: Tensor,
    num_experts: int,
    capacity: int | Tensor | None,
) -> RoutingPlan:
    """Seats the tokens, first come first served, by gathers alone.

    Scatter is slow on TPUs and silently wrong under DTensor, so the slot table
    is read off a sort of the tokens by expert.
    """
    tokens = ops.shape(expert)[1]
    # One-hot of an expert out of range is all zero: padding counts nowhere.
    chosen = ops.one_hot(expert, num_experts, dtype="int32")  # [g, s, e]
    count = ops.sum(chosen, axis=1)  # [g, e]
    # Rank of a token among those that asked for the same expert: an exclusive
    # cumulative count.
    earlier = ops.cumsum(chosen, axis=1) - chosen
    rank = ops.sum(earlier * chosen, axis=-1)  # [g, s]

    slots = tokens if capacity is None else capacity
    slot = ops.arange(slots, dtype="int32")  # [c]
    # Unique keys make any sort stable.
    position = ops.expand_dims(ops.arange(tokens, dtype="int32"), 0)
    order = ops.argsort(expert * tokens + position, axis=-1)  # [g, s]
    start = ops.cumsum(count, axis=-1) - count  # [g, e]
    taken = slot < ops.expand_dims(count, -1)  # [g, e, c]
    # An empty slot reads the sentinel behind the last token.
    seat = ops.where(taken, ops.expand_dims(start, -1) + slot, tokens)
    order = ops.pad(
        ops.cast(order, "int32"), ((0, 0), (0, 1)), constant_values=tokens
    )
    token_index = batched_take(order, seat)
    if capacity is None and not shapes_must_be_static():
        # The table need be no longer than the fullest expert's queue.
        slots = ops.max(count, initial=1)
        token_index = token_index[:, :, :slots]

    kept = (rank < slots) & (expert < num_experts)
    slot_index = ops.where(kept, expert * slots + rank, num_experts * slots)
    slot_index = ops.expand_dims(slot_index, -1)  # [g, s, k]
    weight = tokens_to_slots(ops.expand_dims(gate, -1), token_index, slot_index)
    return RoutingPlan(
        token_index=token_index,
        combine_weight=ops.squeeze(weight, -1),
        probabilities=probabilities,
        slot_index=slot_index,
    )


def _check(
    logits: Tensor, num_selected_experts: int, capacity: int | Tensor | None
) -> None:
    if len(logits.shape) != 3:
        raise ValueError(
            "`logits` must have the shape [groups, tokens, experts]. "
            f"Received: logits.shape={tuple(logits.shape)}."
        )
    if num_selected_experts != 1:
        raise ValueError(
            "`num_selected_experts` must be 1 (Switch routing). Received: "
            f"num_selected_experts={num_selected_experts}."
        )
    if isinstance(capacity, int) and capacity < 1:
        raise ValueError(
            "`expert_capacity` must be at least 1, or None for dropless "
            f"routing. Received: expert_capacity={capacity}."
        )
