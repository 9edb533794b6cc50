"""How a weight is made of others."""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_moe.types import Shape


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the value of one weight is made of values of a source.

    Attributes:
        sources: names of the source, at least one.
        make: gets their arrays, in this order, and returns the value. It is
            called once, and only after everything else was checked.
        shape: gets their shapes and returns that of the value.
        rearranges: whether the value holds the numbers of one array in another
            order, as a transposed kernel does. It then counts as copied, and
            otherwise as merged.

    Raises:
        ValueError: if `sources` is empty.

    Example:

    >>> transposed = keras_moe.weights.Recipe(
    ...     ("dense.weight",),
    ...     make=lambda kernel: kernel.T,
    ...     shape=lambda shape: shape[::-1],
    ...     rearranges=True,
    ... )
    >>> model = keras.Sequential(
    ...     [keras.Input([2]), keras.layers.Dense(3, use_bias=False)]
    ... )
    >>> report = keras_moe.weights.transfer(
    ...     {"dense.weight": np.ones([3, 2], "float32")},
    ...     model,
    ...     {"dense/kernel": transposed}.get,
    ... )
    >>> report.copied
    ('dense/kernel',)
    """

    sources: tuple[str, ...]
    make: Callable[..., Any]
    shape: Callable[..., Shape]
    rearranges: bool = False

    def __post_init__(self):
        if isinstance(self.sources, str) or not self.sources:
            raise ValueError(
                "`sources` must be a tuple of names, at least one. Received: "
                f"sources={self.sources!r}."
            )
