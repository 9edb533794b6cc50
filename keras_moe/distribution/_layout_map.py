"""How the weights of any of our models lie on a mesh."""

import keras

from keras_moe.layers._layout_rules import DENSE_RULES
from keras_moe.layers._layout_rules import EXPERT_RULES
from keras_moe.layers._layout_rules import layout_map as layout_map_of


def layout_map(
    device_mesh: keras.distribution.DeviceMesh,
    num_experts: int | None = None,
) -> keras.distribution.LayoutMap:
    """Returns the layouts of experts, attention and feed-forward layers.

    Experts are spread over the mesh axis `"expert"`; inner sizes over
    `"model"`, if the mesh has more than one device along it. What no rule
    matches is whole on each device.

    Args:
        device_mesh: the mesh, of `device_mesh` or with axes of those names.
        num_experts: number of experts, if it is to be checked.

    Returns:
        A `keras.distribution.LayoutMap`, to which rules can be added: full
        patterns of variable paths.

    Raises:
        ValueError: if `num_experts` is not divisible by the devices along
            `"expert"`.

    Example:

    >>> mesh = keras_moe.distribution.device_mesh(devices=["cpu:0"])
    >>> layouts = keras_moe.distribution.layout_map(mesh)
    >>> layouts["sparse_moe/experts/wi/kernel"].axes
    ('expert', None, None)
    """
    sizes = dict(zip(device_mesh.axis_names, device_mesh.shape, strict=True))
    return layout_map_of(
        device_mesh,
        DENSE_RULES | EXPERT_RULES,
        "expert" if "expert" in sizes else None,
        "model" if sizes.get("model", 1) > 1 else None,
        num_experts,
    )
