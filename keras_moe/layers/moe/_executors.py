"""Executors of a routing plan: all give the same outputs and gradients."""

import warnings
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_moe.backend import accelerator
from keras_moe.backend import shapes_must_be_static
from keras_moe.layers.moe._experts import Experts
from keras_moe.ops import RoutingPlan
from keras_moe.ops import SoftRoutingPlan
from keras_moe.ops import einsum_combine
from keras_moe.ops import einsum_dispatch
from keras_moe.ops import gather_combine
from keras_moe.ops import gather_dispatch
from keras_moe.ops.routing._broken_rows import broken_rows
from keras_moe.ops.routing._dispatch import with_slots
from keras_moe.ops.routing._spread_groups import from_experts
from keras_moe.ops.routing._spread_groups import to_experts
from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor

Plan = RoutingPlan | SoftRoutingPlan


def execute_einsum(
    tokens: Tensor, plan: Plan, experts: Experts, training: bool | None
) -> Tensor:
    """Multiplies by one-hot arrays: for TPUs with small groups."""
    _warn_if_quadratic(plan, experts)
    slots = to_experts(einsum_dispatch(tokens, plan))
    outputs = from_experts(experts(slots, training=training))
    return einsum_combine(outputs, plan)


def execute_gather(
    tokens: Tensor, plan: Plan, experts: Experts, training: bool | None
) -> Tensor:
    """Gathers rows into a table of slots: for GPUs, and for XLA."""
    plan = with_slots(plan)
    slots = to_experts(gather_dispatch(tokens, plan))
    outputs = from_experts(experts(slots, training=training))
    return gather_combine(outputs, plan)


def execute_ragged(
    tokens: Tensor, plan: Plan, experts: Experts, training: bool | None
) -> Tensor:
    """Computes each expert's tokens and no empty slot: for CPUs.

    Where shapes must be static there is nothing to gain, and slots are used.
    """
    if isinstance(plan, SoftRoutingPlan) or shapes_must_be_static():
        return execute_gather(tokens, plan, experts, training)
    # The module imports TensorFlow, which other backends must not need.
    from keras_moe.ops.routing import _ragged_dispatch as ragged

    rows = ragged.ragged_rows(plan)
    outputs = ragged.apply_by_expert(
        ragged.ragged_dispatch(tokens, rows),
        rows,
        experts.functions(training=training),
    )
    return ragged.ragged_combine(outputs, rows, like=tokens)


def execute_by_choice(
    tokens: Tensor, plan: Plan, experts: Experts, training: bool | None
) -> Tensor:
    """Computes each choice of each token, without slots: for a step."""
    plan = with_slots(plan)
    choices, dim = plan.expert_index.shape[-1], tokens.shape[-1]
    rows = ops.reshape(tokens, (-1, dim))
    if choices > 1:
        rows = ops.repeat(rows, choices, axis=0)
    # What asked for no expert is zero before its product and after, whoever
    # computes it: NaN of a token or a kernel would spread to the gradients, or
    # to the output.
    made = ops.reshape(plan.expert_index < experts.num_experts, (-1, 1))
    expert = ops.minimum(plan.expert_index, experts.num_experts - 1)
    outputs = experts.apply_to_rows(
        ops.where(made, rows, 0.0), ops.reshape(expert, (-1,)), training
    )
    weight = ops.reshape(plan.choice_weight, (-1, 1))
    outputs = ops.where(made, outputs * ops.cast(weight, outputs.dtype), 0.0)
    if choices > 1:
        outputs = ops.sum(ops.reshape(outputs, (-1, choices, dim)), axis=1)
    outputs = ops.reshape(outputs, ops.shape(tokens))
    return ops.where(broken_rows(plan.probabilities), np.nan, outputs)


Executor = Callable[[Tensor, Plan, Experts, bool | None], Tensor]
EXECUTORS: dict[str, Executor] = {
    "einsum": execute_einsum,
    "gather": execute_gather,
    "ragged": execute_ragged,
}


def choose_executor(
    plan: Plan, experts: Experts, few_rows: bool = False
) -> Executor:
    """Returns the executor for a plan on this device: `dispatch="auto"`.

    Args:
        plan: the plan.
        experts: the bank.
        few_rows: whether there are few tokens, as in a decoding step.
    """
    if isinstance(plan, SoftRoutingPlan):
        return execute_einsum
    if accelerator() == "TPU" and not _is_quadratic(plan, experts):
        return execute_einsum
    # The ragged executor makes a product for each expert, which in int8 is
    # slower than one for all.
    if accelerator() == "CPU" and not experts.is_quantized and not is_sharded():
        dropless = not isinstance(plan.choice_weight, tuple)
        if few_rows and dropless and not shapes_must_be_static():
            return execute_by_choice
        return execute_ragged
    return execute_gather


def _is_quadratic(plan: Plan, experts: Experts) -> bool:
    """Says whether one-hot products cost more than a dense network would.

    For a token and a dimension of it, dispatch and combine take `2 * e * c`
    products, a dense network `2 * hidden_dim` for each choice. Sizes that are
    unknown pass.
    """
    if isinstance(plan, SoftRoutingPlan):
        return False
    tokens, num_experts = plan.probabilities.shape[-2:]
    slots, choices = plan.token_index.shape[-1], plan.slot_index.shape[-1]
    if slots is None or choices is None:
        return tokens is not None and tokens > experts.hidden_dim
    return num_experts * slots > choices * experts.hidden_dim


def _warn_if_quadratic(plan: Plan, experts: Experts) -> None:
    if _is_quadratic(plan, experts):
        tokens, num_experts = plan.probabilities.shape[-2:]
        warnings.warn(
            "dispatch='einsum' multiplies by one-hot arrays, at a cost that is "
            "quadratic in the tokens of a group and here exceeds that of the "
            f"experts: {tokens} tokens, {num_experts} experts, hidden_dim="
            f"{experts.hidden_dim}. Give the router a smaller `group_size`, "
            "or use dispatch='gather'.",
            stacklevel=2,
        )
