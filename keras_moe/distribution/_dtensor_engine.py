"""Keras models on a mesh of devices, by TensorFlow's DTensor."""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Iterator
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
from keras_moe.distribution._placement import gather
from keras_moe.distribution._placement import layout_of
from keras_moe.distribution._placement import place
from keras_moe.distribution._sharded_variable import ShardedVariable
from keras_moe.distribution._stale_reads import forbid_stale_reads
from keras_moe.distribution._variable_layouts import axes_of_variables
from keras_moe.keras_internals import backend_variable
from keras_moe.keras_internals import reindex_variables
from keras_moe.keras_internals import replace_backend_variable
from keras_moe.sharding import sharded_by
from keras_moe.training._build_state import build_optimizer
from keras_moe.training.checkpoints._sharded_checkpoint import ShardedCheckpoint
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
        layout_map: of weights. Paths that match nothing are whole on each
            device; kernels of experts have to match.

    Attributes:
        device_mesh: the `keras.distribution.DeviceMesh`.
        mesh: the same as DTensor has it.
        axis_sizes: name of a mesh axis to number of devices along it.

    Raises:
        RuntimeError: if stale reads cannot be ruled out, or
            `keras.distribution.set_distribution` was called, which does
            nothing on TensorFlow.
    """

    def __init__(self, layout_map: keras.distribution.LayoutMap):
        refuse_ignored_distribution()
        forbid_stale_reads()
        super().__init__(layout_map)
        self.mesh = dtensor_mesh(self.device_mesh)

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
                not divisible by the devices it would lie along; if processes
                that work together start from different values. Nothing is
                moved then.
        """
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        build_optimizer(model)
        variables = named_state(model, optimizer)
        layouts = axes_of_variables(
            variables, model, self.layout_map, self.axis_sizes
        )
        self._refuse_different(variables)
        for name, variable in variables.items():
            self._move(variable, layouts[name])
        _reindex(optimizer or optimizer_of(model))
        if optimizer_of(model) is not None:
            install(self, model)

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
        """Spreads the rows of arrays over devices.

        Args:
            data: an array `[rows, ...]` or a nested structure of arrays. Where
                several processes work together, each has the whole batch.

        Returns:
            The same structure of DTensors.

        Raises:
            ValueError: if the rows cannot be spread evenly.
        """

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
        """
        optimizer = optimizer or optimizer_of(model)
        if optimizer is None:
            raise ValueError(
                "`optimizer` must be given for a model that is not compiled. "
                "Received: optimizer=None."
            )
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
        compute = _loss_of(model, loss, training=False)
        value = self.function(compute)(self.batch(x), self.batch(y))
        return {"loss": float(gather(value))}

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

    def lay_out(self, gradients: list[Any], variables: list[Any]) -> list[Any]:
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

    def constrain(self, x: Tensor, axes: tuple[str | None, ...]) -> Tensor:
        """Returns `x`, laid out as `axes` say: see `ops.constrain`.

        Raises:
            ValueError: if a size is not divisible by the devices it would lie
                along.
        """
        self.check_sizes(x, axes)
        return dtensor.relayout(x, layout_of(self.mesh, axes))

    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        """Gathers within groups, each where it lies: see `ops`."""
        return tf.gather(
            values, index, axis=num_group_axes, batch_dims=num_group_axes
        )

    def _refuse_different(self, variables: dict[str, keras.Variable]) -> None:
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

    def _move(
        self, variable: keras.Variable, axes: tuple[str | None, ...]
    ) -> None:
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
    `tf.Variable`, which `_move` or `gather` has replaced.
    """
    while optimizer is not None:
        reindex_variables(optimizer)
        # `LossScaleOptimizer` wraps the optimizer that has the slots.
        optimizer = getattr(optimizer, "inner_optimizer", None)


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
