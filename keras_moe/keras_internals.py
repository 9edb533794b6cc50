"""Every private name of Keras that the library touches, a function each.

Keras has no public way to what these functions do, and may rename a private
name in any release. A new release of Keras is therefore tried with
`tests/keras_internals_test.py` first, which has a test for each function.
`tests/private_names_test.py` finds private names of Keras in any other file of
the library.

Two classes override a private method of Keras, which a function cannot do for
them: `layers.routers._replica_losses.ReplicaLosses` has its own
`Layer._get_own_losses`, since `Layer.losses` asks each sublayer for the losses
that it added itself; `optimizers._relative_clip_sgd.RelativeClipSGD` has its
own `Optimizer._clip_gradients`, which is called once gradients are accumulated
and before weights decay.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common import masking
from keras.src.backend.common import stateless_scope
from keras.src.initializers.random_initializers import RandomInitializer
from keras.src.utils import naming

from keras_moe.types import Tensor

# === Layers ===


def flatten_layers(
    layer: keras.layers.Layer, include_self: bool = True
) -> list[keras.layers.Layer]:
    """Returns a layer and all layers below it, each before its sublayers.

    Stands for `Layer._flatten_layers()`. The public `layers` of models leaves
    out layers within layers, such as the experts in a block. A layer that is
    used twice comes once. Siblings come in an order of Keras's own.

    Args:
        layer: any.
        include_self: whether the layer itself comes first.
    """
    return layer._flatten_layers(include_self=include_self)


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers right below a layer, in the order they were made.

    Stands for `Layer._flatten_layers(include_self=False, recursive=False)`.
    Names of weights in checkpoints go by this order. A layer that is an
    attribute twice comes once.

    Args:
        layer: any.
    """
    return layer._flatten_layers(include_self=False, recursive=False)


def own_losses(layer: keras.layers.Layer) -> list[Tensor]:
    """Returns the losses that a layer's last call added by `add_loss`.

    Stands for `Layer._get_own_losses()`. The public `losses` adds those of
    sublayers and of regularisers, so that a loss that is not finite could not
    be traced to its layer.

    Args:
        layer: any that was called.
    """
    return layer._get_own_losses()


def count_name(name: str) -> str:
    """Returns a name that no layer has yet: itself, or with a number.

    Stands for `keras.src.utils.naming.uniquify`. Keras calls a layer without a
    name after its class, and takes each capital for a word.

    Args:
        name: as wanted.
    """
    return naming.uniquify(name)


def stored_kernel(layer: keras.layers.Layer) -> Any:
    """Returns the `keras.Variable` that holds a layer's kernel, `None` if none.

    Stands for `_kernel` of `Dense` and `EinsumDense`. The public `kernel` is
    not the variable under LoRA: it is a tensor with the two factors merged, and
    under int8 and LoRA it raises.

    Args:
        layer: any.
    """
    return getattr(layer, "_kernel", None)


def replace_sublayer(layer: keras.layers.Layer, name: str, value: Any) -> None:
    """Puts something else where a layer has a sublayer, built or not.

    Stands for `Layer._tracker`, which keeps sublayers and refuses new ones
    once a layer is built.

    Args:
        layer: any.
        name: of the attribute.
        value: another layer, or a function that is called like it.
    """
    tracker = layer._tracker
    locked = tracker.locked
    tracker.unlock()
    tracker.untrack(getattr(layer, name))
    delattr(layer, name)
    setattr(layer, name, value)
    if locked:
        tracker.lock()


def take_call_signature(
    layer: keras.layers.Layer, other: keras.layers.Layer
) -> None:
    """Has Keras take the arguments of a layer for those of another.

    Stands for `Layer._call_signature` and what Keras notes of it. A `call` with
    `**kwargs` would not be given `training`, and could not be given tensors and
    settings at once.

    Args:
        layer: whose `call` hands all that it is given to `other`.
        other: any.
    """
    for name in (
        "_call_signature",
        "call_signature_parameters",
        "_call_has_training_arg",
        "_call_has_mask_arg",
        "_call_has_context_arg",
    ):
        setattr(layer, name, getattr(other, name))


def query_projection(
    attention: keras.layers.MultiHeadAttention,
) -> keras.layers.EinsumDense:
    """Returns the layer that makes the queries of Keras's attention.

    Stands for `MultiHeadAttention._query_dense`, which has no public name. Only
    the projections show whether attention is quantised.

    Args:
        attention: built.
    """
    return attention._query_dense


def functional_nodes(model: keras.Model) -> list[Any]:
    """Returns the calls of layers that make up a Functional model.

    Stands for `Functional._nodes_by_depth`. The same layers may have other
    calls in another model. The order of the calls means nothing.

    Args:
        model: Functional.
    """
    levels = model._nodes_by_depth
    return [node for level in levels.values() for node in level]


# === Compiled models ===


def build_from_batch(model: keras.Model, batch: Any) -> None:
    """Makes the variables that the first step on a batch would make.

    Stands for `Trainer._symbolic_build`: weights, the optimizer's variables and
    those of `compile`'s metrics and losses. Without it a checkpoint could be
    restored only after a step that trains.

    Args:
        model: compiled.
        batch: inputs, labels and weights, as for `model.fit`.
    """
    model._symbolic_build(data_batch=batch)


def compile_metrics(model: keras.Model) -> keras.metrics.Metric | None:
    """Returns Keras's holder of the metrics given to `compile`, or `None`.

    Stands for `Trainer._compile_metrics`. The public `metrics` lacks them until
    they are built.

    Args:
        model: a model whose constructor has run.
    """
    return model._compile_metrics


def compile_loss(model: keras.Model) -> Any:
    """Returns Keras's holder of the loss given to `compile`, or `None`.

    Stands for `Trainer._compile_loss`. The public `loss` is what the user gave.

    Args:
        model: compiled.
    """
    return model._compile_loss


def compute_loss(
    model: keras.Model,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any = None,
    training: bool = True,
) -> Tensor:
    """Returns the loss as the model's own training step computes it.

    Stands for `Trainer._compute_loss`, which gives `training` to a
    `compute_loss` of the user's where that takes it.

    Args:
        model: compiled.
        x: inputs.
        y: labels.
        y_pred: what the model made of the inputs.
        sample_weight: of the examples.
        training: whether the loss is that of a training.
    """
    return model._compute_loss(x, y, y_pred, sample_weight, training=training)


# === Tensors ===


def get_mask(x: Tensor) -> Tensor | None:
    """Returns the mask that travels with a tensor; `None` without one.

    Stands for the attribute `_keras_mask`, by which layers hand masks on. On
    JAX, whose arrays take no attributes, Keras keeps masks in a table.

    Args:
        x: a tensor.
    """
    return masking.get_keras_mask(x)


def set_mask(x: Tensor, mask: Tensor | None) -> None:
    """Makes a mask travel with a tensor: see `get_mask`.

    Args:
        x: a tensor that Keras or TensorFlow has made.
        mask: bool; `None` takes the tensor's mask away.
    """
    masking.set_keras_mask(x, mask)


def symbolic_call(
    x: Tensor,
) -> tuple[keras.Operation, tuple[Any, ...], dict[str, Any]] | None:
    """Returns the call that a symbolic tensor is an output of.

    Stands for `KerasTensor._keras_history` and `Operation._inbound_nodes`.

    Args:
        x: any tensor.

    Returns:
        The layer or operation, and what it was called with, positionally and by
        name; `None` for tensors that are not symbolic, or come from nowhere.
    """
    history = getattr(x, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    node = history.operation._inbound_nodes[history.node_index]
    return history.operation, node.arguments.args, node.arguments.kwargs


# === Variables ===


def backend_variable(variable: keras.Variable) -> Any:
    """Returns the backend's object of a variable: `tf.Variable`, for one.

    Stands for `Variable._value`. The public `value` may be a cast copy.

    Args:
        variable: built.
    """
    return variable._value


def replace_backend_variable(
    variable: keras.Variable,
    value: Any,
    layout: keras.distribution.TensorLayout | None,
) -> None:
    """Puts another backend variable, that lies otherwise, into a variable.

    Stands for assignments to `Variable._value` and `Variable._layout`. The
    public `assign` leaves numbers on the device where they lie.

    Args:
        variable: built; its shape and dtype are those of `value`.
        value: the backend's variable or array.
        layout: where it lies on a mesh; `None` for one device.
    """
    variable._value = value
    variable._layout = layout


# === Optimizers ===


def trained_variables(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable]:
    """Returns the weights that an optimizer was built for.

    Stands for `Optimizer._trainable_variables`. `apply(gradients)` without
    weights takes them to be these.

    Args:
        optimizer: built.
    """
    return optimizer._trainable_variables


def reindex_variables(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer find its weights after `replace_backend_variable`.

    Stands for `Optimizer._trainable_variables_indices` and `_var_key`. Keras
    finds slots by the identity of backend variables; `apply` raises otherwise.

    Args:
        optimizer: built.
    """
    optimizer._trainable_variables_indices = {
        optimizer._var_key(variable): index
        for index, variable in enumerate(optimizer._trainable_variables)
    }


def strategy_of_optimizer(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns the strategy of `tf.distribute` an optimizer was made under.

    Stands for `_distribution_strategy` of the TensorFlow backend's optimizers.
    Models have the public `distribute_strategy`; an optimizer made under
    another strategy fails in the middle of a step.

    Args:
        optimizer: any.

    Returns:
        The strategy; `None` for an optimizer that keeps none, such as one that
        wraps another.
    """
    return getattr(optimizer, "_distribution_strategy", None)


# === Scopes ===


def in_stateless_scope() -> bool:
    """Whether variables are read and written in a `keras.StatelessScope`.

    Stands for `keras.src`'s function of the same name. In such a scope an
    update of a metric is kept in the scope, and Keras's loops on JAX lose it.
    """
    return stateless_scope.in_stateless_scope()


@contextlib.contextmanager
def zeros_for_random_values() -> Iterator[None]:
    """Lets variables that are made meanwhile begin with zeros, not at random.

    Stands for `_initializer` of a variable made in a stateless scope, which
    Keras calls when the scope ends. Drawing the values of a large kernel, that
    is to be loaded, takes twice its memory more. After an error none are made.
    """
    with keras.StatelessScope():
        waiting = global_state.get_global_attribute(
            "uninitialized_variables", [], set_to_default=True
        )
        try:
            yield
        except BaseException:
            waiting.clear()
            raise
        for variable in waiting:
            if isinstance(variable._initializer, RandomInitializer):
                variable._initializer = keras.initializers.Zeros()
