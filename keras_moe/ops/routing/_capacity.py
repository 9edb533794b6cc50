"""How many tokens one expert may take from one group."""

import math
import numbers

from keras import ops

from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size

ROUNDINGS = ("truncate", "nearest", "ceil")


def expert_capacity(
    tokens_per_group: int | Tensor,
    num_experts: int,
    capacity_factor: float,
    num_selected_experts: int = 1,
    min_expert_capacity: int = 1,
    capacity_rounding: str = "ceil",
) -> int | Tensor:
    """Returns the number of slots of one expert for one group of tokens.

    `capacity_factor * num_selected_experts * tokens_per_group / num_experts`,
    rounded, at least `min_expert_capacity` and at least 1, at most
    `tokens_per_group`. The paper (Switch Transformers, arXiv:2101.03961,
    equation 3) gives no rounding rule and the known implementations differ:
    mesh-tensorflow truncates, flaxformer rounds half to even, DeepSpeed
    rounds up.

    Args:
        tokens_per_group: tokens in a group; an int, or an int32 scalar tensor
            where shapes are dynamic.
        num_experts: number of experts, E.
        capacity_factor: slack over a perfectly even load.
        num_selected_experts: experts that each token asks for, k.
        min_expert_capacity: lower bound.
        capacity_rounding: `"truncate"`, `"nearest"` (half to even) or
            `"ceil"`.

    Returns:
        An int where `tokens_per_group` is one, else an int32 scalar tensor.

    Raises:
        ValueError: if `capacity_rounding` is not one of the three, or a number
            is not positive.

    Example:

    >>> keras_moe.ops.expert_capacity(100, num_experts=8, capacity_factor=1.25)
    16
    """
    check_choice(ROUNDINGS, capacity_rounding=capacity_rounding)
    check_positive(capacity_factor=capacity_factor)
    check_size(
        num_experts=num_experts, num_selected_experts=num_selected_experts
    )
    share = capacity_factor * num_selected_experts / num_experts
    # A larger share changes nothing, as the tokens of a group are the limit:
    # its slots would overflow int32, and infinity times no token is NaN.
    share = min(share, 2.0)
    floor = max(min_expert_capacity, 1)
    if isinstance(tokens_per_group, numbers.Integral):
        exact = _without_noise(share * tokens_per_group)
        slots = {
            "truncate": math.floor(exact),
            "nearest": round(exact),
            "ceil": math.ceil(exact),
        }[capacity_rounding]
        return int(min(max(slots, floor), max(tokens_per_group, 1)))
    # float64 so that a dynamic shape rounds as a static one does.
    exact = _without_noise(ops.cast(tokens_per_group, "float64") * share)
    slots = {
        "truncate": ops.floor,
        "nearest": ops.round,
        "ceil": ops.ceil,
    }[capacity_rounding](exact)
    slots = ops.cast(slots, "int32")
    limit = ops.maximum(ops.cast(tokens_per_group, "int32"), 1)
    return ops.minimum(ops.maximum(slots, floor), limit)


def _without_noise(exact):
    """Keeps 1.1 * 10 = 11.000000000000002 from becoming 12 slots."""
    round_ = round if isinstance(exact, float) else ops.round
    return round_(exact * 1e9) / 1e9
