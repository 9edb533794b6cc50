"""Seating tokens in the slots of experts, by sorts and gathers alone.

Scatter is slow on TPUs and silently wrong under DTensor. Both kinds of routing
end here: tokens that ask for experts (`seat_choices`) and experts that take
tokens (`seat_takings`). An *ask* is one choice of one token, numbered
`token * k + choice`.
"""

from keras import ops

from keras_moe.backend import shapes_must_be_static
from keras_moe.ops._batched_take import batched_take
from keras_moe.types import Tensor


def seat_choices(
    expert_index: Tensor,
    turn: Tensor | None,
    num_experts: int,
    expert_capacity: int | Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Seats each ask in its expert's next free slot, until there is none.

    Args:
        expert_index: int32 `[g, s, k]`; `num_experts` for no ask.
        turn: int32 `[g, s, k]`, a permutation of `0 ... s * k - 1` in each
            group: who goes before whom. `None` for the order of the asks.
        num_experts: number of experts, E.
        expert_capacity: slots of an expert; `None` for as many as needed.

    Returns:
        `ask_index` int32 `[g, e, c]`, the ask in each slot, `s * k` for an
        empty one; and `slot_index` int32 `[g, s, k]`, its inverse, as
        `expert * c + slot`, `e * c` for an ask without a slot.
    """
    *groups, tokens, choices = ops.shape(expert_index)
    asks = tokens * choices
    expert = ops.reshape(expert_index, (*groups, asks))
    position = ops.arange(asks, dtype="int32")
    turn = position if turn is None else ops.reshape(turn, (*groups, asks))
    order = _argsort_pairs(expert, turn, asks)  # [g, n]

    # The one-hot of an expert out of range is all zero: what asks for none
    # counts for none.
    count = ops.sum(ops.one_hot(expert, num_experts, dtype="int32"), axis=-2)
    start = ops.cumsum(count, axis=-1) - count  # [g, e]
    slots = _slots(count, tokens, expert_capacity)
    slot = ops.arange(slots, dtype="int32")  # [c]
    taken = slot < ops.expand_dims(count, -1)  # [g, e, c]
    # An empty slot reads the sentinel after the last ask.
    seat = ops.where(taken, ops.expand_dims(start, -1) + slot, asks)
    ask_index = batched_take(_with_sentinel(order, asks), seat, len(groups))

    # The first ask of the same expert, by ask: [g, n]
    first = batched_take(_with_sentinel(start, 0), expert, len(groups))
    rank = _argsort(order) - first
    kept = (rank < slots) & (expert < num_experts)
    slot_index = ops.where(kept, expert * slots + rank, num_experts * slots)
    return ask_index, ops.reshape(slot_index, (*groups, tokens, choices))


def seat_takings(
    token_index: Tensor, taken_by: Tensor, choices: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Lists, for each token, the slots that hold it.

    Args:
        token_index: int32 `[g, e, c]`, the token in each slot, `s` for an
            empty one.
        taken_by: int32 `[g, s]`, how many slots hold the token.
        choices: length of the lists, k; no token is in more slots.

    Returns:
        `ask_index` and `slot_index`, as `seat_choices` does.
    """
    *groups, experts, slots = ops.shape(token_index)
    tokens = ops.shape(taken_by)[-1]
    seats = experts * slots
    token = ops.reshape(token_index, (*groups, seats))
    position = ops.arange(seats, dtype="int32")
    # Slots by token: [g, n]
    order = _argsort_pairs(token, position, seats)
    start = ops.cumsum(taken_by, axis=-1) - taken_by  # [g, s]

    choice = ops.arange(choices, dtype="int32")  # [k]
    exists = choice < ops.expand_dims(taken_by, -1)  # [g, s, k]
    index = ops.where(exists, ops.expand_dims(start, -1) + choice, seats)
    slot_index = batched_take(_with_sentinel(order, seats), index, len(groups))

    first = batched_take(_with_sentinel(start, 0), token, len(groups))
    ask = token * choices + _argsort(order) - first
    ask = ops.where(token < tokens, ask, tokens * choices)
    return ops.reshape(ask, (*groups, experts, slots)), slot_index


def _slots(
    count: Tensor, tokens: int | Tensor, capacity: int | Tensor | None
) -> int | Tensor:
    if capacity is not None:
        return capacity
    # No token asks an expert twice, so a queue is no longer than the group.
    # Where shapes may be dynamic the table ends with the longest queue.
    return tokens if shapes_must_be_static() else ops.max(count, initial=1)


def _argsort_pairs(
    major: Tensor, minor: Tensor, num_minor: int | Tensor
) -> Tensor:
    """Sorts by two keys; pairs are unique, so any sort is stable."""
    # int64: the keys of one group of 50,000 tokens overflow int32.
    major, minor = ops.cast(major, "int64"), ops.cast(minor, "int64")
    return _argsort(major * ops.cast(num_minor, "int64") + minor)


def _argsort(keys: Tensor) -> Tensor:
    return ops.cast(ops.argsort(keys, axis=-1), "int32")


def _with_sentinel(values: Tensor, sentinel: int | Tensor) -> Tensor:
    width = ((0, 0),) * (len(values.shape) - 1) + ((0, 1),)
    return ops.pad(values, width, constant_values=sentinel)
