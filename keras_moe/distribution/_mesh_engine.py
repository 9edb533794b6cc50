"""What the engines of all backends have in common."""

from typing import Any

import keras

from keras_moe.types import Tensor


class MeshEngine:
    """A mesh, and what may lie on it.

    Args:
        layout_map: of weights. Paths that match nothing are whole on each
            device; kernels of experts have to match.

    Attributes:
        device_mesh: the `keras.distribution.DeviceMesh`.
        axis_sizes: name of a mesh axis to number of devices along it.
    """

    def __init__(self, layout_map: keras.distribution.LayoutMap):
        self.layout_map = layout_map
        self.device_mesh = layout_map.device_mesh
        self.axis_sizes: dict[str, int] = {
            name: int(size)
            for name, size in zip(
                self.device_mesh.axis_names, self.device_mesh.shape, strict=True
            )
        }

    @property
    def rows_axis(self) -> str | None:
        """The mesh axis along which rows of a batch lie; `None` for none.

        `"batch"`, or `"expert"` where that is the only one of the two that has
        more than one device.
        """
        for name in ("batch", "expert"):
            if self.axis_sizes.get(name, 1) > 1:
                return name
        return None

    def check_rows(self, x: Any) -> None:
        """Raises `ValueError` unless rows can be spread evenly.

        Args:
            x: an array `[rows, ...]`.
        """
        axis = self.rows_axis
        if axis and x.shape[0] % self.axis_sizes[axis]:
            raise ValueError(
                "The rows of a batch must be divisible by the devices along "
                f"the mesh axis {axis!r}. Received: {x.shape[0]} rows, "
                f"{self.axis_sizes[axis]} devices. `drop_remainder=True` of "
                "`tf.data.Dataset.batch` leaves out what is left over."
            )

    def check_sizes(self, x: Tensor, axes: tuple[str | None, ...]) -> None:
        """Raises `ValueError` unless a tensor can lie along mesh axes.

        Args:
            x: a tensor.
            axes: a mesh axis, or `None`, for each of its axes.
        """
        for size, axis in zip(x.shape, axes, strict=True):
            if axis and size is not None and size % self.axis_sizes[axis]:
                raise ValueError(
                    "Sizes must be divisible by the devices along the mesh "
                    f"axis they lie along. Received: x.shape={tuple(x.shape)}, "
                    f"axes={axes}, {self.axis_sizes[axis]} devices along "
                    f"{axis!r}."
                )
