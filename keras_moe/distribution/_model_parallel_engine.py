"""Keras models on a mesh of devices, by JAX."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
import keras
import numpy as np

from keras_moe.distribution._mesh_engine import MeshEngine
from keras_moe.keras_internals import replace_backend_variable
from keras_moe.sharding import active_sharding
from keras_moe.sharding import set_sharding
from keras_moe.training.checkpoints._sharded_checkpoint import ShardedCheckpoint
from keras_moe.types import Axes
from keras_moe.types import Tensor
from keras_moe.weights._named_state import named_state
from keras_moe.weights._named_state import optimizer_of


class ModelParallelEngine(MeshEngine):
    """Spreads models over a mesh by `keras.distribution.ModelParallel`.

    It has the methods of `DTensorEngine`; what differs is that Keras on JAX
    knows of one distribution at a time: from `distribute` to `gather` it is
    this engine's, for all models. Devices are those of one process.

    Keras's loops on JAX (3.15), on a mesh or not, take the values of layers'
    metrics away while the model is called: routers report none there.

    What differs in `train_step`: a loss or an optimizer that is given to it
    becomes the model's own, as by `compile`.

    Args:
        layouts: as of `DTensorEngine`: a `keras.distribution.DeviceMesh` or a
            `keras.distribution.LayoutMap`.

    Attributes:
        device_mesh: the `keras.distribution.DeviceMesh`.
        axis_sizes: name of a mesh axis to number of devices along it.
    """

    def __init__(
        self,
        layouts: keras.distribution.DeviceMesh | keras.distribution.LayoutMap,
    ):
        super().__init__(layouts)
        # Variables that Keras makes between `distribute` and `gather`, such
        # as those of metrics, are whole unless the user's layouts name them.
        made_later = self.layout_map
        if made_later is None:
            made_later = keras.distribution.LayoutMap(self.device_mesh)
        self.distribution = keras.distribution.ModelParallel(
            layout_map=made_later,
            batch_dim_name=self.rows_axis or self.device_mesh.axis_names[0],
            auto_shard_dataset=False,
        )

    def _move(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        variables: Mapping[str, keras.Variable],
        axes_of: Mapping[str, Axes],
    ) -> None:
        for name, variable in variables.items():
            layout = keras.distribution.TensorLayout(
                axes_of[name], self.device_mesh
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
        if optimizer is not None or loss is not None:
            model.compile(optimizer or optimizer_of(model), loss)

        def step(x: Any, y: Any) -> float:
            return model.train_on_batch(x, y, return_dict=True)["loss"]

        return step

    def _evaluate_batch(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        loss: Callable[[Any, Any], Tensor],
    ) -> float:
        return float(loss(y, model(x, training=False)) + sum(model.losses))

    def checkpoint(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> ShardedCheckpoint:
        return ShardedCheckpoint(
            model, optimizer, writes=jax.process_index() == 0
        )

    def constrain(self, x: Tensor, axes: Axes) -> Tensor:
        self.check_sizes(x, axes)
        layout = keras.distribution.TensorLayout(axes, self.device_mesh)
        return keras.distribution.distribute_tensor(x, layout)

    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        take = _take
        for _ in range(num_group_axes):
            take = jax.vmap(take)
        return take(values, index)


def _take(values: Tensor, index: Tensor) -> Tensor:
    return values[index]
