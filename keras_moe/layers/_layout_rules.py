"""How the weights of experts, and of what is around them, lie on a mesh."""

import keras

# "E" stands for the mesh axis over which experts are spread; "M" for the one
# over which inner sizes are split (hidden_dim, attention heads), in the manner
# of Megatron (arXiv:1909.08053), so that a network is split into and joined
# out of; None for an axis of a weight that is whole on each device.
Rules = dict[str, tuple[str | None, ...]]

_INTO = r"(?:.*/)?experts/(?:wi|wi_gate)"
_OUT_OF = r"(?:.*/)?experts/wo"
EXPERT_RULES: Rules = {
    f"{_INTO}/kernel": ("E", None, "M"),  # (experts, dim, hidden_dim)
    f"{_INTO}/bias": ("E", None, "M"),
    f"{_INTO}/kernel_scale": (None, "E", None, "M"),
    f"{_INTO}/lora_kernel_a": ("E", None, None),
    # This factor of LoRA is one for all experts of a bank.
    f"{_INTO}/lora_kernel_b": (None, "M"),
    f"{_OUT_OF}/kernel": ("E", "M", None),  # (experts, hidden_dim, dim)
    f"{_OUT_OF}/bias": ("E", None, None),
    f"{_OUT_OF}/kernel_scale": (None, "E", None, None),
    f"{_OUT_OF}/lora_kernel_a": ("E", "M", None),
    f"{_OUT_OF}/lora_kernel_b": (None, None),
}

_SPLIT = (
    r"(?:.*/)?(?:(?:self_|cross_)?attention/(?:query|key|value)"
    r"|feed_forward/(?:wi|wi_gate))"
)
# Of attention through random features: kernels have an axis for heads.
_HEADS = r"(?:.*/)?(?:self_|cross_)?random_feature_attention"
_JOINED = r"(?:.*/)?(?:(?:self_|cross_)?attention/output|feed_forward/wo)"
DENSE_RULES: Rules = {
    r"(?:.*/)?(?:source_|target_)embedding/embeddings": (None, "M"),
    f"{_SPLIT}/kernel": (None, "M"),
    f"{_SPLIT}/bias": ("M",),
    f"{_SPLIT}/kernel_scale": ("M",),
    f"{_SPLIT}/lora_kernel_a": (None, None),
    f"{_SPLIT}/lora_kernel_b": (None, "M"),
    f"{_HEADS}/(?:query|key|value)/kernel": (None, "M", None),
    f"{_HEADS}/(?:query|key|value)/bias": ("M", None),
    f"{_HEADS}/attention_output/kernel": ("M", None, None),
    f"{_JOINED}/kernel": ("M", None),
    f"{_JOINED}/bias": (None,),
    f"{_JOINED}/kernel_scale": (None,),
    f"{_JOINED}/lora_kernel_a": ("M", None),
    f"{_JOINED}/lora_kernel_b": (None, None),
}


def layout_map(
    device_mesh: keras.distribution.DeviceMesh,
    rules: Rules,
    expert_axis: str | None = "expert",
    model_axis: str | None = None,
    num_experts: int | None = None,
) -> keras.distribution.LayoutMap:
    """Returns the layouts that `rules` give on a mesh.

    A weight that no rule matches is whole on each device; routers are.

    Args:
        device_mesh: the mesh.
        rules: patterns of variable paths, `EXPERT_RULES` among them.
        expert_axis: name of the mesh axis over which experts are spread;
            `None` spreads them over none.
        model_axis: name of the mesh axis over which inner sizes are split;
            `None` splits them over none.
        num_experts: number of experts, if it is to be checked.

    Returns:
        A `keras.distribution.LayoutMap`, to which rules can be added.

    Raises:
        ValueError: if the mesh has no axis of the name, if both names are the
            same, or if `num_experts` is not divisible by the number of
            devices along `expert_axis`.
    """
    names = tuple(device_mesh.axis_names)
    for argument, axis in (
        ("expert_axis", expert_axis),
        ("model_axis", model_axis),
    ):
        if axis is not None and axis not in names:
            raise ValueError(
                f"`{argument}` must be one of the axes of the mesh, {names}. "
                f"Received: {argument}={axis!r}."
            )
    if expert_axis is not None and expert_axis == model_axis:
        raise ValueError(
            "`expert_axis` and `model_axis` must be different axes. Received: "
            f"both are {expert_axis!r}."
        )
    if expert_axis is not None and num_experts is not None:
        size = int(device_mesh.shape[names.index(expert_axis)])
        if num_experts % size:
            raise ValueError(
                "`num_experts` must be divisible by the number of devices "
                f"along the mesh axis {expert_axis!r}. Received: "
                f"num_experts={num_experts}, {size} devices."
            )
    axis_of = {"E": expert_axis, "M": model_axis}
    layouts = keras.distribution.LayoutMap(device_mesh)
    for pattern, axes in rules.items():
        layouts[pattern] = tuple(axis_of.get(axis or "") for axis in axes)
    return layouts
