"""Keras models on a mesh of devices, by JAX."""

from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

from keras_moe.distribution._mesh_engine import MeshEngine
from keras_moe.distribution._variable_layouts import axes_of_variables
from keras_moe.keras_internals import replace_backend_variable
from keras_moe.sharding import active_sharding
from keras_moe.sharding import set_sharding
from keras_moe.training._build_state import build_optimizer
from keras_moe.training.checkpoints._sharded_checkpoint import ShardedCheckpoint
from keras_moe.types import Tensor
from keras_moe.weights._named_state import named_state
from keras_moe.weights._named_state import optimizer_of


class ModelParallelEngine(MeshEngine):
    """Spreads models over a mesh by `keras.distribution.ModelParallel`.

    It has the methods of `DTensorEngine`; what differs is that Keras on JAX
    knows of one distribution at a time: from `distribute` to `gather` it is
    this engine's, for all models. Devices are those of one process.

    Keras's loops on JAX (3.15), on a mesh or not, take the values of layers'
    metrics away while the model is called: what routers measure stays at zero.

    Args:
        layout_map: of weights. Paths that match nothing are whole on each
            device; kernels of experts have to match.

    Attributes:
        device_mesh: the `keras.distribution.DeviceMesh`.
        axis_sizes: name of a mesh axis to number of devices along it.
    """

    def __init__(self, layout_map: keras.distribution.LayoutMap):
        super().__init__(layout_map)
        self.distribution = keras.distribution.ModelParallel(
            layout_map=layout_map,
            batch_dim_name=self.rows_axis or self.device_mesh.axis_names[0],
            auto_shard_dataset=False,
        )

    def distribute(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Moves all that a training changes onto the mesh.

        See `DTensorEngine.distribute`.

        Args:
            model: built.
            optimizer: by default the one that the model was compiled with.

        Raises:
            ValueError: if the model is not built; if a kernel of experts
                matches no layout, or a variable matches several; if a size is
                not divisible by the devices it would lie along. Nothing is
                moved then.
        """
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        build_optimizer(model)
        variables = named_state(model, optimizer)
        layouts = axes_of_variables(
            variables, model, self.layout_map, self.axis_sizes
        )
        for name, variable in variables.items():
            layout = keras.distribution.TensorLayout(
                layouts[name], self.device_mesh
            )
            replace_backend_variable(
                variable,
                keras.distribution.distribute_tensor(variable.value, layout),
                layout,
            )
        keras.distribution.set_distribution(self.distribution)
        set_sharding(self)

    def gather(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Moves a model back to one device, to be saved or served.

        Args:
            model: one that `distribute` moved.
            optimizer: as it was given to `distribute`.
        """
        if active_sharding() is self:
            keras.distribution.set_distribution(None)
            set_sharding(None)
        for variable in named_state(model, optimizer).values():
            whole = jax.device_put(
                np.asarray(variable.value), jax.local_devices()[0]
            )
            replace_backend_variable(variable, whole, None)
        for kind in ("train", "test", "predict"):
            setattr(model, f"{kind}_function", None)

    def batch(self, data: Any) -> Any:
        """Checks that rows can be spread; Keras spreads them itself.

        Args:
            data: an array `[rows, ...]` or a nested structure of arrays.

        Returns:
            The same structure of arrays.

        Raises:
            ValueError: if the rows cannot be spread evenly.
        """

        def checked(x: Any) -> Any:
            x = np.asarray(x)
            if x.ndim:
                self.check_rows(x)
            return x

        return keras.tree.map_structure(
            lambda x: None if x is None else checked(x), data
        )

    def train_step(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
    ) -> Callable[[Any, Any], float]:
        """Returns a compiled training step, for loops of one's own.

        Args:
            model: one that `distribute` moved.
            optimizer: by default the one that the model was compiled with.
            loss: a function of labels and outputs; by default the loss that
                the model was compiled with. If it or an optimizer is given,
                the model is compiled with them.

        Returns:
            A function of a batch's inputs and labels, which returns the loss.
        """
        if optimizer is not None or loss is not None:
            model.compile(optimizer or optimizer_of(model), loss)

        def step(x: Any, y: Any) -> float:
            return model.train_on_batch(x, y, return_dict=True)["loss"]

        return step

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
        value = loss(y, model(x, training=False)) + sum(model.losses)
        return {"loss": float(value)}

    def checkpoint(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> ShardedCheckpoint:
        """Returns what saves and restores a model on whatever devices.

        Args:
            model: one that `distribute` moved.
            optimizer: as it was given to `distribute`.
        """
        return ShardedCheckpoint(
            model, optimizer, writes=jax.process_index() == 0
        )

    def constrain(self, x: Tensor, axes: tuple[str | None, ...]) -> Tensor:
        """Returns `x`, laid out as `axes` say: see `ops.constrain`.

        Raises:
            ValueError: if a size is not divisible by the devices it would lie
                along.
        """
        self.check_sizes(x, axes)
        layout = keras.distribution.TensorLayout(axes, self.device_mesh)
        return keras.distribution.distribute_tensor(x, layout)

    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        """Gathers within groups, each where it lies: see `ops`."""
        take = _take
        for _ in range(num_group_axes):
            take = jax.vmap(take)
        return take(values, index)


def _take(values: Tensor, index: Tensor) -> Tensor:
    return values[index]
