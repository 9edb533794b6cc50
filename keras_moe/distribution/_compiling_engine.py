"""What Keras's functions on a mesh ask of an engine."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import keras

from keras_moe.types import Tensor


class CompilingEngine(Protocol):
    """An engine that compiles a step for all devices: see `DTensorEngine`.

    With it as the type, `_keras_functions` needs nothing of the engine's file,
    which imports it.
    """

    axis_sizes: dict[str, int]

    @property
    def rows_axis(self) -> str | None:
        """The mesh axis along which rows of a batch lie; `None` for none."""

    def distribute(self, model: keras.Model) -> None:
        """Moves the variables of a model that are not there yet."""

    def batch(self, data: Any) -> Any:
        """Spreads the rows of arrays over devices."""

    def function(self, function: Callable) -> Callable:
        """Returns a function compiled for all devices."""

    def lay_out(
        self,
        gradients: Sequence[Tensor | None],
        variables: Sequence[keras.Variable],
    ) -> list[Tensor | None]:
        """Returns gradients, each laid out as its variable is."""
