"""Weights that follow the statistics of queries and keys."""

from collections.abc import Sequence

from keras import ops

from keras_moe.backend import value_now
from keras_moe.ops.linear_attention._feature_statistics import masked_moments
from keras_moe.types import Tensor


def update_moments(
    moments: Sequence[Tensor], x: Tensor, visible: Tensor | None, rate: Tensor
) -> None:
    """Takes a batch into the moving averages of a mean and a second moment.

    A batch of padding alone, or one with a value that is not finite, changes
    nothing: NaN would stay in the averages for ever.

    Args:
        moments: the weights: `[n, dim]`, and `[n, dim]` or `[n, dim, dim]`.
        x: float32 `[b, n, g, t, dim]`, queries or keys.
        visible: bool `[b, 1, 1, t]`, false for padding; `None` hides none.
        rate: the share of the new batch.
    """
    dense = len(moments[1].shape) == 3
    # Features see queries and keys divided by the fourth root of their size.
    root = x.shape[-1] ** -0.25
    count, mean, square = masked_moments(ops.stop_gradient(x), visible, dense)
    new = (root * mean, root**2 * square)
    usable = count > 0.0
    for value in new:
        usable = usable & ops.all(ops.isfinite(value))
    for weight, value in zip(moments, new, strict=True):
        step = ops.where(usable, rate * (value - weight), 0.0)
        weight.assign(weight + step)


def count_batch(
    counter: Tensor, *batch: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Counts a batch, unless it is one of padding or is not finite.

    Args:
        counter: the weight that counts, an int32 scalar.
        *batch: queries and keys, float32 `[b, n, g, t, dim]`, each with bool
            `[b, 1, 1, t]`, false for padding; `None` hides none.

    Returns:
        The number of the batch, and a bool scalar: whether it counts.
    """
    usable = is_usable(*batch)
    before = current_value(counter)
    number = before + 1
    counter.assign(ops.where(usable, number, before))
    return number, usable


def is_usable(*batch: tuple[Tensor, Tensor | None]) -> Tensor:
    """Says whether features can be fitted to queries and keys.

    Args:
        *batch: as of `count_batch`.

    Returns:
        A bool scalar: false where one of them is padding alone, or its squares
        add up to no finite number.
    """
    usable = True
    for x, visible in batch:
        x = ops.stop_gradient(x)
        if visible is not None:
            usable = usable & ops.any(visible)
            x = ops.where(visible[..., None], x, 0.0)
        usable = usable & ops.isfinite(ops.sum(ops.square(x)))
    return usable


def check_usable(name: str, *batch: tuple[Tensor, Tensor | None]) -> None:
    """Raises `ValueError` for values that features cannot be fitted to.

    Args:
        name: of the features.
        *batch: as of `count_batch`; of a graph nothing is known.
    """
    usable = value_now(is_usable(*batch))
    if usable is not None and not usable:
        raise ValueError(
            "`query` and `key` must be finite and not all padding where "
            f"features are fitted to them. Received: for {name!r} values that "
            "are NaN, infinite or too large, or none at all."
        )


def assign_if_finite(
    weights: Sequence[Tensor], values: Sequence[Tensor]
) -> None:
    """Assigns all values, or none if any of them is not finite."""
    usable = True
    for value in values:
        usable = usable & ops.all(ops.isfinite(value))
    # JAX takes no weight for a tensor in a condition.
    before = [current_value(weight) for weight in weights]
    values = choose(usable, values, before)
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def current_value(weight: Tensor) -> Tensor:
    """Returns a weight's value at this place of the program.

    `ops.convert_to_tensor` may return the variable itself, which gradients
    would read after its update.
    """
    return ops.stop_gradient(weight)


def choose(
    condition: Tensor, first: Sequence[Tensor], second: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Returns all of `first` if a scalar is true, else all of `second`."""
    # Broadcast by hand: where devices share a tensor, a scalar condition makes
    # TensorFlow crash.
    return tuple(
        ops.where(ops.broadcast_to(condition, ops.shape(x)), x, y)
        for x, y in zip(first, second, strict=True)
    )
