"""Naming the devices there are."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_moe.distribution._processes import list_devices
from keras_moe.validation import check_size


def device_mesh(
    batch: int = 1,
    expert: int = 1,
    model: int = 1,
    devices: Sequence[str] | None = None,
) -> keras.distribution.DeviceMesh:
    """Arranges devices in a grid with named axes.

    Tokens are spread over `batch` and `expert`, the weights of experts over
    `expert`, and inner sizes of dense layers over `model`.

    Args:
        batch: devices along the axis `"batch"`.
        expert: devices along the axis `"expert"`.
        model: devices along the axis `"model"`.
        devices: names, such as `"cpu:0"`, or in full where several processes
            work together (see `initialize`); by default as many as are needed,
            the first that there are, of each process equally many.

    Returns:
        A `keras.distribution.DeviceMesh` with the three axes.

    Raises:
        ValueError: if a size is not a positive integer, or there are not as
            many devices as their product.

    Example:

    >>> mesh = keras_moe.distribution.device_mesh(devices=["cpu:0"])
    >>> mesh.axis_names
    ['batch', 'expert', 'model']
    """
    check_size(batch=batch, expert=expert, model=model)
    sizes = (batch, expert, model)
    count = math.prod(sizes)
    if devices is None:
        found = list_devices()
        share, rest = divmod(count, len(found))
        if rest or len(found[0]) < share:
            names = sum(found, [])
            each = f", as many in each of {len(found)} processes"
            raise ValueError(
                f"A mesh of batch={batch}, expert={expert}, model={model} "
                f"needs {count} devices{each if len(found) > 1 else ''}. "
                f"Found: {len(names)}, {names}. On a CPU, logical devices can "
                "be made before TensorFlow starts: "
                "`tf.config.set_logical_device_configuration`."
            )
        devices = [name for own in found for name in own[:share]]
    if len(devices) != count:
        raise ValueError(
            f"`devices` must name batch * expert * model = {count} devices. "
            f"Received: {len(devices)}, {list(devices)}."
        )
    grid = np.array(devices).reshape(sizes)
    return keras.distribution.DeviceMesh(
        sizes, ["batch", "expert", "model"], grid
    )
