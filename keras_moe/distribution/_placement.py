"""Whole arrays to sharded tensors, and back."""

import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from keras_moe.types import Tensor


def dtensor_mesh(device_mesh: keras.distribution.DeviceMesh) -> dtensor.Mesh:
    """Returns the mesh as DTensor has it.

    Args:
        device_mesh: of devices of this process, or of all processes.

    Raises:
        ValueError: if some processes have other numbers of its devices than
            others.
    """
    client = dtensor.client_id()
    here = tf.DeviceSpec(job=dtensor.job_name(), replica=0, task=client)
    specs = []
    for name in device_mesh.devices.flatten():
        name = name if name.startswith("/") else name.upper()
        specs.append(here.make_merged_spec(tf.DeviceSpec.from_string(name)))
    tasks = [spec.task for spec in specs]
    counts = [tasks.count(task) for task in range(dtensor.num_clients())]
    if len(set(counts)) > 1:
        raise ValueError(
            "Each process must have as many devices of a mesh as the others. "
            f"Received: {counts} devices, {[s.to_string() for s in specs]}."
        )
    own = [i for i, task in enumerate(tasks) if task == client]
    return dtensor.Mesh(
        dim_names=list(device_mesh.axis_names),
        global_device_ids=np.arange(len(specs)).reshape(device_mesh.shape),
        local_device_ids=own,
        local_devices=[specs[i] for i in own],
    )


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


def to_whole(x: Tensor) -> np.ndarray:
    """Returns the whole array that a sharded tensor is."""
    if not dtensor.is_dtensor(x):
        return np.asarray(x)
    layout = dtensor.fetch_layout(x)
    if not layout.is_fully_replicated():
        whole = dtensor.Layout.replicated(layout.mesh, rank=len(x.shape))
        x = dtensor.relayout(x, whole)
    return dtensor.unpack(x)[0].numpy()


def differing(values: dict[str, np.ndarray], mesh: dtensor.Mesh) -> list[str]:
    """Returns the names of values that are not the same in all processes.

    All processes have to call it.

    Args:
        values: names, the same in all processes, to arrays.
        mesh: of devices of all processes.
    """
    if not values:
        return []
    digests = [zlib.crc32(np.asarray(v).tobytes()) for v in values.values()]
    # Each process writes its digests into rows of their own, one a device, so
    # that gathering shows those of all processes.
    own = np.array(digests, "uint32").astype("int32")
    own = own.reshape([1] * len(mesh.dim_names) + [-1])
    layout = dtensor.Layout([*mesh.dim_names, dtensor.UNSHARDED], mesh)
    parts = [tf.constant(own)] * mesh.num_local_devices()
    shown = to_whole(dtensor.pack(parts, layout)).reshape(-1, len(digests))
    same = (shown == shown[0]).all(axis=0)
    return [name for name, equal in zip(values, same, strict=True) if not equal]
