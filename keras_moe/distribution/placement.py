"""Whole arrays to sharded tensors, and back."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from keras_moe.types import Tensor


def dtensor_mesh(device_mesh: keras.distribution.DeviceMesh) -> dtensor.Mesh:
    """Returns the mesh as DTensor has it."""
    names = [
        "{}:{}".format(*device.upper().split(":"))
        for device in device_mesh.devices.flatten()
    ]
    axes = list(zip(device_mesh.axis_names, device_mesh.shape, strict=True))
    return dtensor.create_mesh(axes, devices=names)


def layout_of(
    mesh: dtensor.Mesh, axes: tuple[str | None, ...]
) -> dtensor.Layout:
    """Returns the layout in which axes lie along the named axes of a mesh."""
    return dtensor.Layout([axis or dtensor.UNSHARDED for axis in axes], mesh)


def place(value: Any, layout: dtensor.Layout) -> Tensor:
    """Cuts a whole array, of which each process has a copy.

    Each device is handed its own part: nothing is whole on a device first.

    Args:
        value: an array, of a shape that the layout divides.
        layout: how it is to lie.
    """
    value = np.asarray(value)
    mesh = layout.mesh
    sizes = {name: mesh.dim_size(name) for name in mesh.dim_names}
    parts = []
    for place_on_mesh in mesh.local_device_locations():
        index = tuple(
            _part(length, place_on_mesh.get(axis), sizes.get(axis))
            for axis, length in zip(
                layout.sharding_specs, value.shape, strict=True
            )
        )
        parts.append(tf.constant(value[index]))
    return dtensor.pack(parts, layout)


def _part(length: int, position: int | None, count: int | None) -> slice:
    if position is None or count is None:
        return slice(None)
    size = length // count
    return slice(position * size, (position + 1) * size)


def gather(x: Tensor) -> np.ndarray:
    """Returns the whole array that a sharded tensor is."""
    if not dtensor.is_dtensor(x):
        return np.asarray(x)
    layout = dtensor.fetch_layout(x)
    if not layout.is_fully_replicated():
        whole = dtensor.Layout.replicated(layout.mesh, rank=len(x.shape))
        x = dtensor.relayout(x, whole)
    return dtensor.unpack(x)[0].numpy()
