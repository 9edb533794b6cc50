"""The engine that spreads tensors over devices, as layers see it."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from keras_moe.types import Tensor


class Sharding(Protocol):
    """What an engine of `keras_moe.distribution` does for layers."""

    axis_sizes: dict[str, int]

    def constrain(self, x: Tensor, axes: tuple[str | None, ...]) -> Tensor:
        """Returns `x`, laid out as `axes` say."""

    def batched_take(
        self, values: Tensor, index: Tensor, num_group_axes: int
    ) -> Tensor:
        """Gathers within groups, each where it lies."""


_active: Sharding | None = None


@contextlib.contextmanager
def sharded_by(sharding: Sharding | None) -> Iterator[None]:
    """Makes layers ask an engine, for as long as it is entered.

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
    """Makes layers ask an engine from now on.

    Args:
        sharding: the engine; `None` for none.
    """
    global _active
    _active = sharding


def active_sharding() -> Sharding | None:
    """Returns the engine that runs the code; `None` for none."""
    return _active


def is_sharded() -> bool:
    """Whether an engine runs the code."""
    return _active is not None
