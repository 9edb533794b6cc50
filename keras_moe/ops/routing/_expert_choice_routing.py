"""Expert-choice routing: each expert takes its best tokens."""

from keras import ops

from keras_moe.backend import shapes_must_be_static
from keras_moe.ops._batched_take import batched_take
from keras_moe.ops._softmax import softmax
from keras_moe.ops.routing._broken_rows import mark_broken
from keras_moe.ops.routing._broken_rows import split_rows
from keras_moe.ops.routing._capped_assignment import log_capped_assignment
from keras_moe.ops.routing._checks import check_capacity
from keras_moe.ops.routing._checks import check_logits
from keras_moe.ops.routing._checks import check_padding_mask
from keras_moe.ops.routing._gates import gates_of_choices
from keras_moe.ops.routing._gates import gates_of_slots
from keras_moe.ops.routing._ranking import ranking_probabilities
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.ops.routing._seating import seat_takings
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size

# The score of padding: below all others, and every logarithm of an assignment.
_LOWEST = -3.4e38


def expert_choice_routing(
    logits: Tensor,
    expert_capacity: int | Tensor,
    padding_mask: Tensor | None = None,
    max_experts_per_token: int | None = None,
    softmax_over: str = "experts",
    normalization: str = "none",
    entropy_weight: float = 0.001,
    num_iterations: int = 300,
) -> RoutingPlan:
    """Plans routing in which each expert takes the tokens it scores highest.

    The load is even by construction, so there is no auxiliary loss. A token
    may be taken by any number of experts, or by none (its output is then
    zero). Slots are filled in descending order of score; ties go to the token
    that comes first.

    Who is taken depends on all tokens of the group, later ones included: this
    routing must not stand in a causal decoder, and the result for a row
    depends on the rest of its group.

    Source: Expert Choice, arXiv:2202.09368, section 3.2; with
    `max_experts_per_token` section 3.3. mesh-tensorflow's `expert_selection`
    is `softmax_over="tokens", normalization="mean"`.

    Args:
        logits: `[groups, tokens, experts]`; computed in float32 whatever the
            dtype.
        expert_capacity: tokens that an expert takes, an int or an int32 scalar
            tensor; at most the tokens of a group.
        padding_mask: bool `[groups, tokens]`, false for padding, which no
            expert takes: slots stay empty where tokens are too few.
        max_experts_per_token: most experts that may take one token; `None` for
            no limit. The experts then take their tokens by the solution of
            `capped_assignment` instead of by score, and what the rounding of
            that solution leaves above the limit is given up.
        softmax_over: `"experts"` (the paper) or `"tokens"` (mesh-tensorflow):
            the axis over which scores sum to 1.
        normalization: `"none"` weighs by the score; `"mean"` divides it by the
            number of experts that took the token.
        entropy_weight: of `capped_assignment`.
        num_iterations: of `capped_assignment`.

    Returns:
        A `RoutingPlan`. Its `slot_index` has as many choices as the most
        wanted token has experts (all experts where shapes must be static).

    Raises:
        ValueError: if `logits` is not of rank 3, `padding_mask` is not of its
            first two axes, `expert_capacity` is `None` or below 1, or an
            option is unknown.

    Example:

    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]])
    >>> plan = keras_moe.ops.expert_choice_routing(logits, expert_capacity=2)
    >>> plan.token_index.numpy()[0]
    array([[0, 1],
           [2, 1]], dtype=int32)
    """
    logits = ops.convert_to_tensor(logits)
    check_logits(logits, 3, "[groups, tokens, experts]")
    check_padding_mask(padding_mask, logits)
    if expert_capacity is None:
        raise ValueError(
            "`expert_capacity` must be a number: experts that choose need to "
            "know how many tokens to take. Received: expert_capacity=None."
        )
    check_capacity(expert_capacity)
    check_size(
        max_experts_per_token=max_experts_per_token,
        num_iterations=num_iterations,
    )
    check_choice(("experts", "tokens"), softmax_over=softmax_over)
    check_choice(("none", "mean"), normalization=normalization)
    check_positive(entropy_weight=entropy_weight)

    logits = ops.cast(logits, "float32")
    tokens, num_experts = ops.shape(logits)[-2:]
    real, broken = split_rows(logits, padding_mask)
    # NaN, in padding or elsewhere, would spread to its whole group.
    logits = ops.where(real, logits, 0.0)
    expert_capacity = _at_most(expert_capacity, tokens)
    scores = _scores(logits, real, softmax_over)

    wanted = _ranked(logits, real, softmax_over)
    if max_experts_per_token is not None:
        wanted = log_capped_assignment(
            wanted,
            expert_capacity,
            max_experts_per_token,
            real[..., 0],
            entropy_weight,
            num_iterations,
        )
    taken, token_index = _take_best(wanted, real, expert_capacity)
    if max_experts_per_token is not None:
        taken = taken & _is_among_best(wanted, taken, max_experts_per_token)
        token_index = _without_given_up(token_index, taken)

    taken_by = ops.sum(ops.cast(taken, "int32"), axis=-1)  # [g, s]
    if max_experts_per_token is not None:
        choices = min(max_experts_per_token, num_experts)
    elif shapes_must_be_static():
        choices = num_experts
    else:
        choices = ops.max(taken_by, initial=1)
    ask_index, slot_index = seat_takings(token_index, taken_by, choices)
    # The sentinel `e * c` becomes the sentinel `e`.
    expert_index = slot_index // ops.shape(token_index)[-1]

    gates = gates_of_choices(scores, expert_index)
    if normalization == "mean":
        share = 1.0 / ops.cast(ops.maximum(taken_by, 1), "float32")
        gates = gates * ops.expand_dims(share, -1)
    return RoutingPlan(
        token_index=token_index,
        combine_weight=gates_of_slots(gates, ask_index, slot_index),
        probabilities=mark_broken(scores, broken),
        slot_index=slot_index,
        expert_index=expert_index,
    )


def _at_most(capacity: int | Tensor, tokens: int | Tensor) -> int | Tensor:
    if isinstance(capacity, int) and isinstance(tokens, int):
        return min(capacity, tokens)
    return ops.minimum(ops.cast(capacity, "int32"), tokens)


def _scores(logits: Tensor, real: Tensor, softmax_over: str) -> Tensor:
    if softmax_over == "experts":
        return softmax(logits)
    logits = ops.where(real, logits, _LOWEST)
    # Keras's `softmax` would warn at groups of one token.
    return ops.exp(logits - ops.logsumexp(logits, axis=-2, keepdims=True))


def _ranked(logits: Tensor, real: Tensor, softmax_over: str) -> Tensor:
    """Returns the scores to rank by, in which equal tokens are equal."""
    if softmax_over == "experts":
        return ranking_probabilities(logits)
    over_tokens = ops.swapaxes(ops.where(real, logits, _LOWEST), -2, -1)
    return ops.swapaxes(ranking_probabilities(over_tokens), -2, -1)


def _take_best(
    wanted: Tensor, real: Tensor, capacity: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Returns bool `[g, s, e]` who is taken and int32 `[g, e, c]` where."""
    tokens = ops.shape(wanted)[-2]
    by_expert = ops.swapaxes(ops.where(real, wanted, _LOWEST), -2, -1)
    score, token = ops.top_k(by_expert, capacity)  # [g, e, c]
    token = ops.cast(token, "int32")
    # An expert takes all tokens that score above the last token that it takes;
    # of those that tie with that token, the ones no later in position.
    position = ops.arange(tokens, dtype="int32")
    taken = (by_expert > score[..., -1:]) | (
        (by_expert == score[..., -1:]) & (position <= token[..., -1:])
    )
    taken = ops.swapaxes(taken, -2, -1) & real
    return taken, ops.where(score > _LOWEST, token, tokens)


def _is_among_best(wanted: Tensor, taken: Tensor, limit: int) -> Tensor:
    """Returns bool `[g, s, e]`: the token's `limit` best among its takers."""
    num_experts = wanted.shape[-1]
    _, order = ops.top_k(ops.where(taken, wanted, _LOWEST), num_experts)
    return ops.argsort(order, axis=-1) < limit


def _without_given_up(token_index: Tensor, taken: Tensor) -> Tensor:
    """Empties the slots whose token went to other experts."""
    *groups, tokens, num_experts = ops.shape(taken)
    # `flat` holds `taken` by token and expert, and a false entry at the end for
    # empty slots.
    flat = ops.reshape(taken, (*groups, tokens * num_experts))
    expert = ops.reshape(ops.arange(num_experts, dtype="int32"), (-1, 1))
    at = ops.minimum(token_index * num_experts + expert, tokens * num_experts)
    width = ((0, 0),) * len(groups) + ((0, 1),)
    flat = ops.pad(flat, width, constant_values=False)
    kept = batched_take(flat, at, len(groups))
    return ops.where(kept, token_index, tokens)
