"""Assignment of whole values to variables that are sums over replicas."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def assign_whole(
    model: keras.Model, values: Iterable[tuple[keras.Variable, np.ndarray]]
) -> None:
    """Assigns values so that each reads back bit by bit.

    A metric's variable under several replicas is the sum of theirs. TensorFlow
    gives each replica the same share of what is assigned, and the sum of three
    eighths is rounded. Here the shares are whole multiples of the last bit of
    the value, so that sums of any of them, in any order, are exact.

    Args:
        model: made under any strategy.
        values: pairs of a variable and its whole value.
    """
    strategy = getattr(model, "distribute_strategy", None)
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    summed = []
    for variable, value in values:
        # TensorFlow divides what is assigned by the number of replicas; by 1
        # or 2 that is exact.
        if replicas > 2 and _is_summed(variable):
            summed.append(
                (variable, *exact_shares(np.asarray(value), replicas))
            )
        else:
            variable.assign(value)
    if summed:
        _assign_in_replicas(strategy, summed)


def exact_shares(
    value: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits numbers into nearly equal shares that add up without rounding.

    Args:
        value: finite floats or integers, of any shape.
        count: how many shares.

    Returns:
        The first share, and the one that each of the others gets.

    Example:

    >>> from keras_moe.training.checkpoints._replica_shares import exact_shares
    >>> value = np.array(19.2, "float32")
    >>> first, others = exact_shares(value, 8)
    >>> bool(sum([others] * 7, start=first) == value)
    True
    """
    if value.dtype.kind in "iu":
        others = value // count
    else:
        info = np.finfo(value.dtype)
        _, exponent = np.frexp(value)
        # Exponent of the last bit of the mantissa.
        unit = np.maximum(exponent - 1, info.minexp) - info.nmant
        bits = np.trunc(np.ldexp(value, -unit) / count)
        others = np.where(np.isfinite(value), np.ldexp(bits, unit), 0)
        others = others.astype(value.dtype)
    return (value - (count - 1) * others).astype(value.dtype), others


def _is_summed(variable: keras.Variable) -> bool:
    return (
        variable.synchronization == "on_read" and variable.aggregation == "sum"
    )


def _assign_in_replicas(strategy: Any, shares: list[tuple]) -> None:
    import tensorflow as tf

    def assign() -> None:
        context = tf.distribute.get_replica_context()
        is_first = tf.equal(context.replica_id_in_sync_group, 0)
        for variable, first, others in shares:
            variable.assign(tf.where(is_first, first, others))

    tf.function(lambda: strategy.run(assign), autograph=False)()
