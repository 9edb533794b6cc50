"""How tensors lie on a mesh of devices: the hook that layers call."""

import keras

from keras_moe.sharding import active_sharding
from keras_moe.types import Tensor


def constrain(x: Tensor, *axes: str | None) -> Tensor:
    """Says over which mesh axes the axes of a tensor are spread.

    The identity, unless an engine of `keras_moe.distribution` runs the code:
    that moves what lies elsewhere, by an all-to-all where one axis gives up a
    mesh axis to another. Names that the mesh does not have stand for none.

    Args:
        x: a tensor.
        *axes: for each of its axes the name of a mesh axis, or `None` for one
            that is whole on each device.

    Returns:
        The same values.

    Raises:
        ValueError: if there are not as many names as axes.

    Example:

    >>> x = np.zeros((8, 4))
    >>> keras_moe.ops.constrain(x, "batch", None).shape  # no engine: as it is
    (8, 4)
    """
    if len(axes) != len(x.shape):
        raise ValueError(
            "`axes` must name a mesh axis, or None, for each axis of `x`. "
            f"Received: axes={axes}, x.shape={tuple(x.shape)}."
        )
    sharding = active_sharding()
    if sharding is None or isinstance(x, keras.KerasTensor):
        return x
    sizes = sharding.axis_sizes
    present = (axis if sizes.get(axis or "", 1) > 1 else None for axis in axes)
    return sharding.constrain(x, tuple(present))


def replicate(x: Tensor) -> Tensor:
    """Makes a tensor whole on each device, if an engine runs the code."""
    return constrain(x, *(None,) * len(x.shape))
