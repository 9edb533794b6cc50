"""Token-choice routing: each token asks for its best experts."""

from typing import Any

from keras import ops

from keras_moe.backend import index_of_greatest
from keras_moe.ops._softmax import softmax
from keras_moe.ops.routing._broken_rows import mark_broken
from keras_moe.ops.routing._broken_rows import split_rows
from keras_moe.ops.routing._checks import check_capacity
from keras_moe.ops.routing._checks import check_logits
from keras_moe.ops.routing._checks import check_padding_mask
from keras_moe.ops.routing._gates import gates_of_choices
from keras_moe.ops.routing._gates import gates_of_slots
from keras_moe.ops.routing._ranking import ranking_probabilities
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.ops.routing._seating import seat_choices
from keras_moe.ops.routing._spread_groups import draw_uniform
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size

NORMALIZATIONS = ("none", "before_drop", "after_drop")
PRIORITIES = (
    "choice_major",
    "token_major",
    "batch_prioritized",
    "gate_prioritized",
)
SECOND_EXPERT_POLICIES = ("all", "none", "threshold", "random")


def top_k_routing(
    logits: Tensor,
    num_selected_experts: int = 1,
    expert_capacity: int | Tensor | None = None,
    padding_mask: Tensor | None = None,
    normalization: str = "none",
    priority: str = "choice_major",
    second_expert_policy: str = "all",
    second_expert_threshold: float = 0.2,
    selection_bias: Tensor | None = None,
    seed: Any = None,
) -> RoutingPlan:
    """Plans routing in which each token asks for its k most probable experts.

    A token takes the next free slot of each expert that it asks for; once an
    expert is full, later asks are dropped. Ties go to the expert with the
    lowest index. The weights are the router's probabilities.

    With the defaults this is Switch routing (arXiv:2101.03961, section 2.1,
    with the semantics of the authors' code rather than of the paper's figure
    15, whose count is inclusive and leaves slot 0 of each expert unused). With
    `num_selected_experts=2, normalization="before_drop"` it is GShard's and
    GLaM's (arXiv:2006.16668, algorithm 1; arXiv:2112.06905). `docs/anchors.md`
    lists the arguments that give the behaviour of each known implementation.

    Args:
        logits: `[groups, tokens, experts]`; computed in float32 whatever the
            dtype.
        num_selected_experts: experts for each token, k.
        expert_capacity: slots of an expert in a group, an int or an int32
            scalar tensor. `None` is dropless: as many slots as the fullest
            expert needs, or as there are tokens where shapes must be static
            (XLA).
        padding_mask: bool `[groups, tokens]`, false for padding, which is not
            routed and takes no slot.
        normalization: `"none"` weighs by the probabilities as they are;
            `"before_drop"` divides them by their sum over the k choices
            (GShard: a choice whose sibling was dropped keeps a weight below
            1); `"after_drop"` by their sum over the choices that were neither
            refused nor dropped (DeepSpeed: a lone survivor weighs 1).
        priority: who takes slots first. `"choice_major"`: all first choices in
            order of position, then all second ones, and so on; `"token_major"`:
            all choices of the first token, then of the next;
            `"batch_prioritized"`: choice-major, tokens in descending order of
            their first choice's probability (V-MoE, arXiv:2106.05974, section
            4.1); `"gate_prioritized"`: choices in descending order of their
            probability.
        second_expert_policy: which choices after the first are asked for at
            all. `"all"`; `"none"`; `"threshold"`: those whose share of the
            probability of the k choices is above `second_expert_threshold`;
            `"random"`: those with a probability of that share divided by the
            threshold (GShard).
        second_expert_threshold: see above.
        selection_bias: float `[experts]`, added to the probabilities to choose
            experts, not to weigh them (arXiv:2408.15664).
        seed: an int or a `keras.random.SeedGenerator`, for `"random"`.

    Returns:
        A `RoutingPlan`.

    Raises:
        ValueError: if `logits` is not of rank 3, `padding_mask` is not of its
            first two axes, `num_selected_experts` is not between 1 and the
            number of experts, `expert_capacity` is below 1, an option is
            unknown, or `"random"` has no seed.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]])
    >>> plan = keras_moe.ops.top_k_routing(logits, 1, expert_capacity=1)
    >>> plan.token_index.numpy()[0]  # token 1 came too late; 3 would be empty
    array([[0],
           [2]], dtype=int32)
    """
    logits = ops.convert_to_tensor(logits)
    check_logits(logits, 3, "[groups, tokens, experts]")
    check_padding_mask(padding_mask, logits)
    check_capacity(expert_capacity)
    check_size(num_selected_experts=num_selected_experts)
    num_experts = logits.shape[-1]
    if num_selected_experts > num_experts:
        raise ValueError(
            "`num_selected_experts` must be at most the number of experts, "
            f"{num_experts}. Received: num_selected_experts="
            f"{num_selected_experts}."
        )
    check_choice(NORMALIZATIONS, normalization=normalization)
    check_choice(PRIORITIES, priority=priority)
    check_choice(
        SECOND_EXPERT_POLICIES, second_expert_policy=second_expert_policy
    )
    check_positive(second_expert_threshold=second_expert_threshold)

    logits = ops.cast(logits, "float32")
    real, broken = split_rows(logits, padding_mask)
    # NaN, in padding or elsewhere, would spread to its whole group.
    logits = ops.where(real, logits, 0.0)
    probabilities = softmax(logits)

    expert = _best_experts(logits, num_selected_experts, selection_bias)
    gates = gates_of_choices(probabilities, expert)  # [g, s, k]
    ranked = gates
    if priority in ("batch_prioritized", "gate_prioritized"):
        ranked = gates_of_choices(ranking_probabilities(logits), expert)
    turn = _turn(ranked, priority)
    share = _divided_by_sum(gates)
    if num_selected_experts > 1 and second_expert_policy != "all":
        asked = _accepted(
            share, second_expert_policy, second_expert_threshold, seed
        )
        expert = ops.where(asked, expert, num_experts)
    expert = ops.where(real, expert, num_experts)
    if normalization == "before_drop":
        gates = share

    ask_index, slot_index = seat_choices(
        expert, turn, num_experts, expert_capacity
    )
    if normalization == "after_drop":
        seats = ops.shape(ask_index)[-2] * ops.shape(ask_index)[-1]
        gates = _divided_by_sum(ops.where(slot_index < seats, gates, 0.0))
    made = expert < num_experts
    dropless = expert_capacity is None and normalization != "after_drop"
    return RoutingPlan(
        token_index=ask_index // num_selected_experts,
        combine_weight=gates_of_slots(gates, ask_index, slot_index),
        probabilities=mark_broken(probabilities, broken),
        slot_index=slot_index,
        expert_index=expert,
        choice_weight=ops.where(made, gates, 0.0) if dropless else (),
    )


def _best_experts(
    logits: Tensor,
    num_selected_experts: int,
    selection_bias: Tensor | None,
) -> Tensor:
    if selection_bias is None:
        # Logits decide, not probabilities: softmax can round two close logits
        # to one value.
        ranked = logits
    else:
        bias = ops.cast(selection_bias, "float32")
        ranked = ranking_probabilities(logits) + bias
    # Keras ranks 0.0 above -0.0, which would break a tie.
    ranked = ops.where(ranked == 0.0, 0.0, ops.stop_gradient(ranked))
    if num_selected_experts == 1:
        best = ops.expand_dims(index_of_greatest(ranked), -1)
    else:
        _, best = ops.top_k(ranked, num_selected_experts)
    return ops.cast(best, "int32")


def _accepted(
    share: Tensor, policy: str, threshold: float, seed: Any
) -> Tensor:
    """Returns bool `[g, s, k]`: which choices are asked for."""
    if policy == "none":
        later = ops.zeros_like(share, dtype="bool")
    elif policy == "threshold":
        later = share > threshold
    else:
        if seed is None:
            raise ValueError(
                "`seed` must be given with second_expert_policy='random'. "
                "Received: seed=None."
            )
        later = draw_uniform(share, seed=seed) < share / threshold
    return later | (ops.arange(share.shape[-1]) == 0)


def _turn(gates: Tensor, priority: str) -> Tensor | None:
    """Returns int32 `[g, s, k]`, the place of each choice in the order."""
    *groups, tokens, choices = ops.shape(gates)
    first_come = priority == "choice_major" and choices == 1
    if priority == "token_major" or first_come:
        return None
    if priority == "gate_prioritized":
        flat = ops.reshape(gates, (*groups, tokens * choices))
        rank = _descending_rank(flat)
        return ops.reshape(rank, (*groups, tokens, choices))
    if priority == "batch_prioritized":
        rank = _descending_rank(gates[..., 0])
    else:
        rank = ops.arange(tokens, dtype="int32")
        rank = ops.broadcast_to(rank, (*groups, tokens))
    choice = ops.arange(choices, dtype="int32")
    return choice * tokens + ops.expand_dims(rank, -1)


def _descending_rank(values: Tensor) -> Tensor:
    """Returns the rank along the last axis; ties in order of position."""
    # `top_k` breaks ties to the lowest index, whatever the backend.
    length = ops.shape(values)[-1]
    _, order = ops.top_k(ops.stop_gradient(values), length)
    return ops.cast(ops.argsort(order, axis=-1), "int32")


def _divided_by_sum(gates: Tensor) -> Tensor:
    total = ops.sum(gates, axis=-1, keepdims=True)
    return gates / ops.where(total > 0.0, total, 1.0)
