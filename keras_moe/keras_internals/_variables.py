"""Private names of variables, optimizers and scopes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common import stateless_scope
from keras.src.initializers.random_initializers import RandomInitializer


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
