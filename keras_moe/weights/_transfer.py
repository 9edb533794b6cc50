"""The one way by which weights get from one place to another."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeAlias

import keras
import numpy as np

from keras_moe.weights._named_weights import named_weights
from keras_moe.weights._named_weights import without_state
from keras_moe.weights._recipe import Recipe
from keras_moe.weights._transfer_plan import TransferPlan
from keras_moe.weights._transfer_report import TransferReport
from keras_moe.weights._undo_log import UndoLog

Rule: TypeAlias = Callable[[str], "str | Recipe | None"]
Assign: TypeAlias = Callable[[Iterable[tuple[keras.Variable, np.ndarray]]], Any]


def transfer(
    source: keras.Model | Mapping[str, Any],
    target: keras.Model | Mapping[str, keras.Variable],
    rule: Rule | None = None,
    *,
    cast: bool = False,
    reuse: bool = False,
    use_all: bool = False,
    assign: Assign | None = None,
) -> TransferReport:
    """Gives the weights of a target the values of a source.

    Names, shapes and dtypes of all weights are checked before the first one is
    assigned, and a transfer that fails leaves the target bit for bit as it
    was. Each name of the source is read once, one after the other: there is
    no second copy of all weights in memory. (Values that are read or made on
    the way may still turn out wrong. Where there are such, earlier values of
    the target are kept in a temporary file, as large as the target.)

    States of random seeds, the optimizer and metrics are no weights and stay
    as they are. A weight that is not trainable is a weight like any other.

    Args:
        source: a model, built, whose weights have the names of
            `named_weights`; or a mapping of names to arrays: NumPy's, or
            whatever has a `shape` and a `dtype` and is read by `np.asarray`,
            such as a `LazyArray`, an HDF5 data set or a variable.
        target: a model, built; or names to variables.
        rule: gets the name of a weight of the target and says where its value
            comes from: a name of the source, a `Recipe`, or `None` for a
            weight that is to stay as it is. By default, the same name.
        cast: whether a float of one kind may become one of another, by
            rounding. All other dtypes must be equal, but integers of another
            width are taken if they hold the same numbers.
        reuse: whether several weights may take their values from one name.
        use_all: whether it is an error if a name of the source is not used.
        assign: assigns pairs of a variable and its value; by default
            `variable.assign(value)` each. What it assigned before it raises an
            error of its own may stay assigned.

    Returns:
        What became of each weight, and what was not used.

    Raises:
        ValueError: if `source` or `target` is neither a model nor a mapping, or
            two names of the target are of one variable; if the source lacks a
            name, or has another shape or dtype,
            naming all that do; if a name is used several times without
            `reuse`, or not used with `use_all`; if the target shares weights
            with the source that are to get other values; if a value cannot be
            rounded to the target's dtype without becoming infinite.
        TypeError: if `rule` is no function, or returns something else.

    Example:

    >>> def make(*sizes):
    ...     layers = [keras.layers.Dense(n) for n in sizes]
    ...     return keras.Sequential([keras.Input([2]), *layers])
    >>> deep, shallow = make(2, 2, 1), make(2, 1)
    >>> def rule(name):  # the last layer comes from the last
    ...     return name.replace("dense#1/", "dense#2/")
    >>> print(keras_moe.weights.transfer(deep, shallow, rule))
    copied: 4 weights
    merged: none
    fresh: none
    unused: 2: dense#1/kernel, dense#1/bias
    """
    if rule is not None and not callable(rule):
        raise TypeError(
            "`rule` must be a function of a name, such as the `get` of a "
            f"dictionary. Received: rule={rule!r}."
        )
    plan = TransferPlan(
        _by_name(source, "source"),
        _by_name(target, "target"),
        rule or _same_name,
        cast=cast,
        reuse=reuse,
        use_all=use_all,
    )
    assign = assign or _assign_each
    if plan.is_certain:
        assign(plan.values())
        return plan.report
    undo = UndoLog()
    try:
        assign(_kept(plan.values(), undo))
    except BaseException:
        undo.restore()
        raise
    finally:
        undo.close()
    return plan.report


def _by_name(
    side: keras.Model | Mapping[str, Any], name: str
) -> Mapping[str, Any]:
    if isinstance(side, keras.layers.Layer):
        return without_state(named_weights(side), side)
    if not isinstance(side, Mapping):
        holds = "arrays" if name == "source" else "variables"
        raise ValueError(
            f"`{name}` must be a model, or a mapping of names to {holds}. "
            f"Received: {name} of type {type(side).__name__}."
        )
    for key, value in side.items() if name == "target" else ():
        if not isinstance(value, keras.Variable):
            raise ValueError(
                "`target` must map names to variables. Received: "
                f"{type(value).__name__} for {key!r}."
            )
    return side


def _assign_each(
    values: Iterable[tuple[keras.Variable, np.ndarray]],
) -> None:
    for variable, value in values:
        variable.assign(value)


def _kept(
    values: Iterator[tuple[keras.Variable, np.ndarray]], undo: UndoLog
) -> Iterator[tuple[keras.Variable, np.ndarray]]:
    for variable, value in values:
        undo.keep(variable)
        yield variable, value


def _same_name(name: str) -> str:
    return name
