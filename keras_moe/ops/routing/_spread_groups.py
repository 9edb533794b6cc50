"""Groups of tokens, and slots of experts, on a mesh of devices.

Tokens are spread over the mesh axes "batch" and "expert" by their groups. One
axis of a tensor lies along one axis of a mesh at most: where the mesh has both,
groups have two axes. The one along "expert" comes first, as DTensor exchanges
the first axis of a tensor with another, but mixes up values between two later
ones (TensorFlow 2.21, without an error). Without an engine all of this is the
identity.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_moe.ops._constrain import constrain
from keras_moe.ops._constrain import replicate
from keras_moe.sharding import active_sharding
from keras_moe.types import Tensor

_GROUP_AXES = ("expert", "batch")


def num_shares() -> int:
    """Returns over how many devices groups are spread."""
    return math.prod(size for _, size in _mesh_axes())


def spread_groups(x: Tensor) -> Tensor:
    """Spreads groups over devices.

    Args:
        x: `[groups, ...]`; the number of groups is divisible by `num_shares`.

    Returns:
        The same, or `[first, second, ...]` if there are two mesh axes.
    """
    axes = _mesh_axes()
    if len(axes) == 2:
        # Rows are sharded over "batch", so after this reshape the first axis
        # is the one that is.
        size = axes[1][1]
        groups, *rest = ops.shape(x)
        x = ops.reshape(x, (size, groups // size, *rest))
        x = _turned(x, 0, 1)
    return as_spread(x, len(axes))


def as_spread(x: Tensor, num_group_axes: int) -> Tensor:
    """Declares that the groups of `[groups, ...]` are spread.

    Args:
        x: a tensor.
        num_group_axes: number of leading axes that are groups.
    """
    names = [name for name, _ in _mesh_axes()]
    if not names:
        return x
    rest = len(x.shape) - num_group_axes
    return constrain(x, *names, *(None,) * rest)


def join_groups(x: Tensor) -> Tensor:
    """Undoes `spread_groups`: returns `[groups, ...]`."""
    axes = _mesh_axes()
    if len(axes) < 2:
        return x
    first, second, *rest = ops.shape(x)
    x = _turned(x, 1, 0)
    return ops.reshape(x, (second * first, *rest))


def draw_uniform(
    like: Tensor, minval: float = 0.0, maxval: float = 1.0, seed: Any = None
) -> Tensor:
    """Draws the numbers that one device would draw for all groups.

    If each device drew for its own groups, the numbers would be others.

    Args:
        like: `[groups, ...]`, spread.
        minval: lower bound, inclusive.
        maxval: upper bound, exclusive.
        seed: as for `keras.random.uniform`.

    Returns:
        float32, of the shape of `like` and spread as it is.
    """
    shape = ops.shape(like)
    if len(_mesh_axes()) == 2:
        shape = (shape[0] * shape[1], *shape[2:])
    drawn = keras.random.uniform(
        shape, minval, maxval, dtype="float32", seed=seed
    )
    return spread_groups(replicate(drawn))


def to_experts(slots: Tensor) -> Tensor:
    """Sends slots to the devices of their experts: an all-to-all.

    Args:
        slots: `[groups, experts, slots, dim]`, spread by groups.

    Returns:
        The same, spread by experts.
    """
    here, there = _exchange()
    if not there:
        return slots
    return constrain(constrain(slots, *here), *there)


def from_experts(slots: Tensor) -> Tensor:
    """Undoes `to_experts`."""
    here, there = _exchange()
    if not there:
        return slots
    return constrain(constrain(slots, *there), *here)


def _turned(x: Tensor, before: int, after: int) -> Tensor:
    """Swaps the first two axes, one of which lies along "batch"."""
    # DTensor refuses to transpose a tensor if data must move with it: the
    # layouts before and after must say that none does.
    x = ops.swapaxes(_along_batch(x, before), 0, 1)
    return _along_batch(x, after)


def _along_batch(x: Tensor, axis: int) -> Tensor:
    names: list[str | None] = [None] * len(x.shape)
    names[axis] = "batch"
    return constrain(x, *names)


def _exchange() -> tuple[list[str | None], list[str | None]]:
    """Returns the layouts by groups and by experts; empty if experts stay."""
    names = [name for name, _ in _mesh_axes()]
    if "expert" not in names:
        return [], []
    others = names[1:]
    return (
        ["expert", *others, None, None, None],
        [None, *others, "expert", None, None],
    )


def _mesh_axes() -> list[tuple[str, int]]:
    sharding = active_sharding()
    sizes = {} if sharding is None else sharding.axis_sizes
    return [(n, sizes[n]) for n in _GROUP_AXES if sizes.get(n, 1) > 1]
