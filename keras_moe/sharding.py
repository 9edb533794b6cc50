"""The engine that spreads tensors over devices, as layers see it."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from keras_moe.types import Axes
from keras_moe.types import Tensor


class Sharding(Protocol):
    """What an engine of `keras_moe.distribution` does for layers."""

    axis_sizes: dict[str, int]

    def constrain(self, x: Tensor, axes: Axes) -> Tensor:
        """Returns `x`, laid out as `axes` say."""

    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        """Gathers within groups, each where it lies."""


# A global, not a `ContextVar`: a thread that a step starts, such as a replica
# of `MirroredStrategy`, does not inherit the context. Its layers would take no
# engine to be there and read sharded tensors by indices, which DTensor answers
# with other entries, without an error.
_active: Sharding | None = None


@contextlib.contextmanager
def sharded_by(sharding: Sharding | None) -> Iterator[None]:
    """Makes layers ask an engine, for as long as the scope is entered.

    Layers in all threads of the process do. So nothing but the engine's own
    models may be called in another thread meanwhile.

    Args:
        sharding: the engine; `None` for none.
    """
    before = _active
    set_sharding(sharding)
    try:
        yield
    finally:
        set_sharding(before)


def set_sharding(sharding: Sharding | None) -> None:
    """Makes layers ask an engine from now on, in all threads.

    Args:
        sharding: the engine; `None` for none.
    """
    global _active
    _active = sharding


def active_sharding() -> Sharding | None:
    """Returns the engine that layers are to ask; `None` for none."""
    return _active


def is_sharded() -> bool:
    """Whether there is an engine that layers are to ask."""
    return _active is not None
