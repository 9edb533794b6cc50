"""Moving the router's weights between experts, choices and slots."""

from keras import ops

from keras_moe.ops.routing._dispatch import tokens_to_slots
from keras_moe.types import Tensor


def gates_of_choices(scores: Tensor, expert_index: Tensor) -> Tensor:
    """Returns the score of each chosen expert.

    Args:
        scores: float32 `[g, s, e]`.
        expert_index: int32 `[g, s, k]`; out of range reads 0.

    Returns:
        float32 `[g, s, k]`.
    """
    # A one-hot product, not a gather: the gradient of a gather is a
    # scatter, slow on TPUs and silently wrong under DTensor.
    chosen = ops.one_hot(expert_index, scores.shape[-1], dtype=scores.dtype)
    return ops.sum(chosen * ops.expand_dims(scores, -2), axis=-1)


def gates_of_slots(
    gates: Tensor, ask_index: Tensor, slot_index: Tensor
) -> Tensor:
    """Returns the weight `[g, e, c]` of the ask in each slot.

    Args:
        gates: float32 `[g, s, k]`.
        ask_index: int32 `[g, e, c]`, the ask (`token * k + choice`).
        slot_index: int32 `[g, s, k]`, its inverse.
    """
    groups = ops.shape(gates)[:-2]
    asks = ops.reshape(gates, (*groups, -1, 1))
    slots = ops.reshape(slot_index, (*groups, -1, 1))
    return ops.squeeze(tokens_to_slots(asks, ask_index, slots), -1)
