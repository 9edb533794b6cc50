"""One dense feed-forward network out of many experts."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_moe.layers.moe._experts import Experts
from keras_moe.layers.transformer._feed_forward import FeedForward
from keras_moe.types import Tensor
from keras_moe.weights._merged_kernel import merged_kernel

_CHOICES = ("average", "weighted_average", "most_used")


def merge_experts(
    experts: Experts,
    expert: str | int = "average",
    load: Tensor | None = None,
    name: str | None = None,
) -> FeedForward:
    """Returns a dense network made of an expert, or of a mean of experts.

    Kernels are taken as the experts compute with them: dequantised, and with
    LoRA merged.

    Args:
        experts: the bank, built.
        expert: `"average"`; `"weighted_average"`, weighted by `load`;
            `"most_used"`, by `load`; or the number of an expert.
        load: share of the choices that fell on each expert, `[num_experts]`.
        name: name of the layer that is returned.

    Returns:
        A built `keras_moe.layers.FeedForward`.

    Raises:
        ValueError: if `experts` is not built, there is no such `expert`, or
            `load` is needed and nothing was routed yet.
    """
    if not experts.built:
        raise ValueError("The layer must be built before its experts are read.")
    shares = expert_shares(experts.num_experts, expert, load)

    def mean(values: Tensor) -> np.ndarray:
        return np.tensordot(shares, ops.convert_to_numpy(values), axes=1)

    policy = experts.dtype_policy
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        policy = policy.default_policy
    layer = FeedForward(
        experts.hidden_dim,
        activation=experts.activation,
        gated=experts.gated,
        dropout_rate=experts.dropout_rate,
        use_bias=experts.use_bias,
        dtype=policy,
        name=name,
    )
    layer.build((None, merged_kernel(experts.inner).shape[1]))
    for part in ("inner", "gate", "outer"):
        if part == "gate" and not experts.gated:
            continue
        bank, dense = getattr(experts, part), getattr(layer, part)
        dense.kernel.assign(mean(merged_kernel(bank)))
        if bank.bias is not None:
            dense.bias.assign(mean(bank.bias)[0])  # (experts, 1, units)
    return layer


def expert_shares(
    num_experts: int, expert: str | int, load: Tensor | None = None
) -> np.ndarray:
    """Returns how much each expert has of the network made of all.

    Args:
        num_experts: number of experts.
        expert: see `merge_experts`.
        load: see there.

    Returns:
        float32 `[num_experts]`, of sum one.

    Raises:
        ValueError: if there is no such `expert`, or `load` is needed and
            nothing was routed yet.
    """
    if isinstance(expert, numbers.Integral) and not isinstance(expert, bool):
        if not 0 <= expert < num_experts:
            raise ValueError(
                f"`expert` must be in [0, {num_experts}). Received: "
                f"expert={expert}."
            )
        return np.eye(num_experts, dtype="float32")[expert]
    if expert not in _CHOICES:
        raise ValueError(
            f"`expert` must be one of {_CHOICES} or the number of an expert. "
            f"Received: expert={expert!r}."
        )
    if expert == "average":
        return np.full(num_experts, 1 / num_experts, dtype="float32")
    loads = None if load is None else ops.convert_to_numpy(load)
    if loads is None or not loads.sum() > 0:
        raise ValueError(
            f"`expert={expert!r}` needs to know how tokens were routed, and "
            "none was since the metrics were reset: call the layer on data, "
            "`model.evaluate(...)` for instance, or give `expert='average'` "
            "or a number."
        )
    if expert == "most_used":
        return np.eye(num_experts, dtype="float32")[loads.argmax()]
    return (loads / loads.sum()).astype("float32")
