"""What the engines of all backends have in common."""

import abc
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras

from keras_moe.distribution._layout_map import layout_map
from keras_moe.distribution._variable_layouts import axes_of_variables
from keras_moe.training._build_state import build_optimizer
from keras_moe.training.checkpoints._sharded_checkpoint import ShardedCheckpoint
from keras_moe.types import Axes
from keras_moe.types import Tensor
from keras_moe.weights._named_state import named_state


class MeshEngine(abc.ABC):
    """Base of the engines: a mesh, and the models that lie on it.

    Args:
        layouts: a `keras.distribution.DeviceMesh`, on which each model lies as
            `keras_moe.distribution.layout_map(mesh, model)` says; or a
            `keras.distribution.LayoutMap`, where weights whose paths match
            nothing are whole on each device and kernels of experts must match.

    Attributes:
        device_mesh: the `keras.distribution.DeviceMesh`.
        axis_sizes: name of a mesh axis to number of devices along it.
    """

    def __init__(
        self,
        layouts: keras.distribution.DeviceMesh | keras.distribution.LayoutMap,
    ):
        self.layout_map = None
        self.device_mesh = layouts
        if isinstance(layouts, keras.distribution.LayoutMap):
            self.layout_map = layouts
            self.device_mesh = layouts.device_mesh
        self.axis_sizes: dict[str, int] = {
            name: int(size)
            for name, size in zip(
                self.device_mesh.axis_names, self.device_mesh.shape, strict=True
            )
        }

    # === Models ===

    def distribute(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Moves all that a training changes onto the mesh.

        Weights, random seeds, the optimizer's variables and metrics, each as
        the layout map says of it or of the weight it belongs to. From then on
        `fit`, `evaluate` and `predict` of a compiled model run on the mesh.

        Args:
            model: built.
            optimizer: by default the one that the model was compiled with.

        Raises:
            ValueError: if the model is not built; if a kernel of experts
                matches no layout, or a variable matches several; if a size is
                not divisible by the devices it would lie along; on TensorFlow,
                if processes that work together start from different values.
                Nothing is moved then.
        """
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        build_optimizer(model)
        variables = named_state(model, optimizer)
        layouts = self.layout_map
        if layouts is None:
            layouts = layout_map(self.device_mesh, model)
        axes_of = axes_of_variables(variables, model, layouts, self.axis_sizes)
        self._move(model, optimizer, variables, axes_of)

    @abc.abstractmethod
    def _move(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        variables: Mapping[str, keras.Variable],
        axes_of: Mapping[str, Axes],
    ) -> None:
        """Moves the variables, after `distribute` has checked its arguments.

        Args:
            model: built, and so is its optimizer.
            optimizer: as it was given to `distribute`.
            variables: of both, by name.
            axes_of: the mesh axes along which each lies, by the same names.
        """

    @abc.abstractmethod
    def gather(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Moves a model back to one device, to be saved, exported or served.

        Args:
            model: one that `distribute` moved.
            optimizer: as it was given to `distribute`.
        """

    @abc.abstractmethod
    def batch(self, data: Any) -> Any:
        """Spreads the rows of arrays over devices, where Keras does not.

        Args:
            data: an array `[rows, ...]` or a nested structure of arrays. Where
                several processes work together, each has the whole batch.

        Returns:
            The same structure: of DTensors on TensorFlow; on JAX of arrays,
            which Keras spreads itself.

        Raises:
            ValueError: if the rows cannot be spread evenly.
        """

    @abc.abstractmethod
    def train_step(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
    ) -> Callable[[Any, Any], Tensor | float]:
        """Returns a compiled training step, for loops of one's own.

        Args:
            model: one that `distribute` moved.
            optimizer: by default the one that the model was compiled with.
            loss: a function of labels and outputs, which returns a scalar; by
                default the loss that the model was compiled with. The model's
                own losses, such as a router's, are added.

        Returns:
            A function of a batch's inputs and labels, as `batch` returns them,
            which returns the loss as a scalar.

        Raises:
            ValueError: on TensorFlow, if there is no optimizer, or the model
                has a `train_step` of its own, which would be left out.
        """

    def evaluate(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
    ) -> dict[str, float]:
        """Evaluates a model on the mesh.

        Args:
            model: one that `distribute` moved.
            x: with `loss`, one batch's inputs; else all that
                `keras.Model.evaluate` takes.
            y: labels, if they are not in `x`.
            loss: a function of labels and outputs; by default what the model
                was compiled with, metrics included.

        Returns:
            Name to value: `"loss"`, and the metrics.
        """
        if loss is None:
            return model.evaluate(x, y, return_dict=True, verbose=0)
        return {"loss": self._evaluate_batch(model, x, y, loss)}

    @abc.abstractmethod
    def _evaluate_batch(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        loss: Callable[[Any, Any], Tensor],
    ) -> float:
        """Returns a batch's loss, the model's own losses included.

        Args:
            model: one that `distribute` moved.
            x: inputs.
            y: labels.
            loss: a function of labels and outputs.
        """

    @abc.abstractmethod
    def checkpoint(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> ShardedCheckpoint:
        """Returns a checkpoint, which may be restored on any other devices.

        Args:
            model: one that `distribute` moved.
            optimizer: as it was given to `distribute`.
        """

    # === Tensors ===

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

    @abc.abstractmethod
    def constrain(self, x: Tensor, axes: Axes) -> Tensor:
        """Returns `x`, laid out as `axes` say: see `ops.constrain`.

        Args:
            x: a tensor.
            axes: a mesh axis, or `None`, for each of its axes.

        Raises:
            ValueError: if a size is not divisible by the devices it would lie
                along.
        """

    @abc.abstractmethod
    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        """Gathers within groups, each where it lies: see `ops`.

        Args:
            values: `[*groups, positions, ...]`.
            index: int `[*groups, ...]`, of positions.
            num_group_axes: number of axes that both have in front.
        """

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

    def check_sizes(self, x: Tensor, axes: Axes) -> None:
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
