"""A check that a model and its optimizer hold finite numbers alone."""

import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_moe.weights._named_state import optimizer_of

_compiled_checks: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def all_finite(model: keras.Model) -> bool:
    """Says whether a model's and its optimizer's variables are all finite.

    Metrics are left out: the greatest value so far starts at minus infinity.
    The check is one compiled function; the first call for a model takes longer.

    Args:
        model: built.

    Returns:
        `False` if any number is NaN or infinite.

    Example:

    >>> from keras_moe.training import all_finite
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> all_finite(model)
    True
    >>> _ = model.layers[0].bias.assign([0.0, np.nan])
    >>> all_finite(model)
    False
    """
    variables = list(model.variables)
    if (optimizer := optimizer_of(model)) is not None:
        variables += optimizer.variables
    variables = [
        variable
        for variable in variables
        if keras.backend.is_float_dtype(variable.dtype)
    ]
    if not variables:
        return True
    key = [id(variable) for variable in variables]
    known, check = _compiled_checks.get(model, (None, None))
    if known != key or check is None:
        check = _compile_check(variables)
        _compiled_checks[model] = key, check
    return bool(keras.ops.convert_to_numpy(check()))


def _compile_check(variables: list[keras.Variable]) -> Callable[[], Any]:
    def check(values: list[Any]) -> Any:
        finite = [keras.ops.all(keras.ops.isfinite(v)) for v in values]
        return keras.ops.all(keras.ops.stack(finite))

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Variables that are given as arguments would be copied.
        return tf.function(lambda: check(variables), autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(check)
        return lambda: compiled([v.value for v in variables])
    return lambda: check(variables)
