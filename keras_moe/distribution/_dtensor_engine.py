"""Keras models on a mesh of devices, by TensorFlow's DTensor."""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.experimental import dtensor

from keras_moe.backend import refuse_ignored_distribution
from keras_moe.distribution._keras_functions import install
from keras_moe.distribution._keras_functions import uninstall
from keras_moe.distribution._mesh_engine import MeshEngine
from keras_moe.distribution._placement import differing
from keras_moe.distribution._placement import dtensor_mesh
from keras_moe.distribution._placement import layout_of
from keras_moe.distribution._placement import place
from keras_moe.distribution._placement import to_whole
from keras_moe.distribution._sharded_variable import ShardedVariable
from keras_moe.distribution._stale_reads import forbid_stale_reads
from keras_moe.keras_internals import backend_variable
from keras_moe.keras_internals import reindex_variables
from keras_moe.keras_internals import replace_backend_variable
from keras_moe.sharding import sharded_by
from keras_moe.training.checkpoints._sharded_checkpoint import ShardedCheckpoint
from keras_moe.types import Axes
from keras_moe.types import Tensor
from keras_moe.weights._named_state import named_state
from keras_moe.weights._named_state import optimizer_of


class DTensorEngine(MeshEngine):
    """Spreads a model's weights, optimizer and batches over a mesh.

    The program stays one for all devices: what it computes is what one device
    would compute, to rounding. Rows of a batch lie along the mesh axis
    `"batch"`, or along `"expert"` where that is the only one of the two that
    has more than one device. In `SparseMoE` groups of tokens lie along both,
    and go to the experts that lie along `"expert"` and back by two all-to-alls.

    Shapes are static here, whatever one device would do: the number of rows
    must be the same in each batch (one that differs is compiled for anew) and
    divisible by the devices along its axis; drop what is left over.

    DTensor's own optimisation of all-reduces would let optimizers read stale
    values. The engine turns it off by an environment variable, which must be
    before DTensor is used for the first time in a process.

    Untested on TPU hardware; tested on meshes of logical CPU devices, of one
    process and of two.

    Args:
        layouts: a `keras.distribution.DeviceMesh`, on which each model lies as
            `keras_moe.distribution.layout_map(mesh, model)` says; or a
            `keras.distribution.LayoutMap`, where weights whose paths match
            nothing are whole on each device and kernels of experts must match.

    Attributes:
        device_mesh: the `keras.distribution.DeviceMesh`.
        mesh: the same as DTensor has it.
        axis_sizes: name of a mesh axis to number of devices along it.

    Raises:
        RuntimeError: if stale reads cannot be ruled out, or
            `keras.distribution.set_distribution` was called, which does
            nothing on TensorFlow.

    Example:

    >>> mesh = keras_moe.distribution.device_mesh(devices=["cpu:0"])
    >>> engine = keras_moe.distribution.DTensorEngine(mesh)
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> model.compile("adam", "mse")
    >>> engine.distribute(model)
    >>> model.predict(np.ones([4, 3]), verbose=0).shape
    (4, 2)
    >>> engine.gather(model)  # on one device again
    """

    def __init__(
        self,
        layouts: keras.distribution.DeviceMesh | keras.distribution.LayoutMap,
    ):
        refuse_ignored_distribution()
        forbid_stale_reads()
        super().__init__(layouts)
        self.mesh = dtensor_mesh(self.device_mesh)

    def _move(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        variables: Mapping[str, keras.Variable],
        axes_of: Mapping[str, Axes],
    ) -> None:
        self._refuse_different(variables)
        for name, variable in variables.items():
            self._move_variable(variable, axes_of[name])
        _reindex(optimizer or optimizer_of(model))
        if optimizer_of(model) is not None:
            install(self, model)

    def gather(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        for variable in named_state(model, optimizer).values():
            if isinstance(backend_variable(variable), ShardedVariable):
                whole = tf.Variable(
                    variable.numpy(),
                    name=variable.name,
                    trainable=variable.trainable,
                )
                replace_backend_variable(variable, whole, None)
        _reindex(optimizer or optimizer_of(model))
        uninstall(model)

    def batch(self, data: Any) -> Any:

        def spread(x: Any) -> Any:
            if x is None or dtensor.is_dtensor(x):
                return x
            x = tf.convert_to_tensor(x)
            if not x.shape.rank:
                return place(x, layout_of(self.mesh, ()))
            self.check_rows(x)
            rest = (None,) * (x.shape.rank - 1)
            return place(x, layout_of(self.mesh, (self.rows_axis, *rest)))

        return keras.tree.map_structure(spread, data)

    def train_step(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
    ) -> Callable[[Any, Any], Tensor]:
        optimizer = optimizer or optimizer_of(model)
        if optimizer is None:
            raise ValueError(
                "`optimizer` must be given for a model that is not compiled. "
                "Received: optimizer=None."
            )
        _refuse_own_step(model)
        compute = _loss_of(model, loss, training=True)

        def step(x: Any, y: Any) -> Tensor:
            with tf.GradientTape() as tape:
                value = compute(x, y)
                scaled = optimizer.scale_loss(value)
            variables = model.trainable_variables
            gradients = tape.gradient(scaled, variables)
            optimizer.apply(self.lay_out(gradients, variables), variables)
            return value

        return self.function(step)

    def _evaluate_batch(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        loss: Callable[[Any, Any], Tensor],
    ) -> float:
        compute = _loss_of(model, loss, training=False)
        value = self.function(compute)(self.batch(x), self.batch(y))
        return float(to_whole(value))

    def checkpoint(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> ShardedCheckpoint:
        if dtensor.num_clients() == 1:
            return ShardedCheckpoint(model, optimizer)
        return ShardedCheckpoint(
            model,
            optimizer,
            writes=dtensor.client_id() == 0,
            wait=functools.partial(dtensor.barrier, self.mesh),
        )

    def function(self, function: Callable) -> Callable:
        """Returns a function compiled for all devices of the mesh.

        Args:
            function: of tensors that `batch` returned; may read and write
                variables that `distribute` moved.
        """
        compiled = tf.function(function, autograph=False)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            with self.scope():
                return compiled(*args)

        return call

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Makes layers ask this engine where their tensors lie."""
        with sharded_by(self):
            yield

    def lay_out(
        self,
        gradients: Sequence[Tensor | None],
        variables: Sequence[keras.Variable],
    ) -> list[Tensor | None]:
        """Returns gradients, each dense and laid out as its variable is.

        Args:
            gradients: of the variables; `None` where there is none.
            variables: of Keras.
        """
        return [
            None
            if gradient is None
            else dtensor.relayout(
                tf.convert_to_tensor(gradient),
                backend_variable(variable).layout,
            )
            for gradient, variable in zip(gradients, variables, strict=True)
        ]

    def constrain(self, x: Tensor, axes: Axes) -> Tensor:
        self.check_sizes(x, axes)
        return dtensor.relayout(x, layout_of(self.mesh, axes))

    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        return tf.gather(
            values, index, axis=num_group_axes, batch_dims=num_group_axes
        )

    def _refuse_different(
        self, variables: Mapping[str, keras.Variable]
    ) -> None:
        """Raises `ValueError` unless all processes have the same values."""
        if dtensor.num_clients() == 1:
            return
        values = {
            name: variable.numpy()
            for name, variable in variables.items()
            if not isinstance(backend_variable(variable), ShardedVariable)
        }
        if different := differing(values, self.mesh):
            raise ValueError(
                "`model` must have the same values in all processes that train "
                "it: make it after `keras.utils.set_random_seed` with one "
                f"seed. Received: different values of {different}."
            )

    def _move_variable(self, variable: keras.Variable, axes: Axes) -> None:
        if isinstance(backend_variable(variable), ShardedVariable):
            return
        sharded = ShardedVariable(
            variable.numpy(),
            layout=layout_of(self.mesh, axes),
            name=variable.name,
            trainable=variable.trainable,
        )
        layout = keras.distribution.TensorLayout(axes, self.device_mesh)
        replace_backend_variable(variable, sharded, layout)


def _reindex(optimizer: keras.optimizers.Optimizer | None) -> None:
    """Rebuilds an optimizer's index of weights.

    Keras finds an optimizer's slots by the identity of each weight's
    `tf.Variable`, which the engine has replaced.
    """
    while optimizer is not None:
        reindex_variables(optimizer)
        # `LossScaleOptimizer` wraps the optimizer that has the slots.
        optimizer = getattr(optimizer, "inner_optimizer", None)


def _refuse_own_step(model: keras.Model) -> None:
    """Raises `ValueError` for a model that does not train as Keras does.

    A model whose `train_step` is that of Keras at times says by
    `has_own_train_step` when it is not.
    """
    # An attribute of the model may stand in place of the method.
    step = getattr(model.train_step, "__func__", model.train_step)
    differs = step is not keras.Model.train_step
    if getattr(model, "has_own_train_step", differs):
        raise ValueError(
            "`model` must have the `train_step` of Keras: the step for a loop "
            "of one's own would leave out another one. After `distribute`, "
            "`fit` calls the model's own. Received: a "
            f"{type(model).__name__}, which has its own `train_step`."
        )


def _loss_of(
    model: keras.Model, loss: Callable | None, training: bool
) -> Callable[[Any, Any], Tensor]:
    def compute(x: Any, y: Any) -> Tensor:
        outputs = model(x, training=training)
        if loss is None:
            return model.compute_loss(
                x=x, y=y, y_pred=outputs, training=training
            )
        return tf.add_n([loss(y, outputs), *model.losses])

    return compute
