"""What goes into and comes out of each layer while a model runs."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_moe.weights._layer_names import named_layers

_METHODS = ("call", "quantized_call")


class Count(NamedTuple):
    """Numbers that are not finite, and of how many.

    Attributes:
        nan: how many are not a number.
        plus: how many are infinity.
        minus: how many are minus infinity.
        size: how many there are.
    """

    nan: int = 0
    plus: int = 0
    minus: int = 0
    size: int = 0

    @property
    def bad(self) -> int:
        """How many are not finite."""
        return self.nan + self.plus + self.minus

    def __str__(self) -> str:
        kinds = {"NaN": self.nan, "inf": self.plus, "-inf": self.minus}
        found = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n)
        return f"{self.bad} of {self.size} values: {found or 'none'}"


class Call(NamedTuple):
    """A call of a layer that made numbers that are not finite.

    Attributes:
        path: of the layer.
        layer: the layer, or operation of a functional model.
        outputs: what came out of it.
    """

    path: str
    layer: Any
    outputs: Count


class CallRecorder:
    """Notes which layers make NaN or infinity out of finite numbers.

    Example:

    >>> from keras_moe.training.nonfinite._call_recorder import CallRecorder
    >>> layer = keras.layers.Activation("exponential", name="exp")
    >>> model = keras.Sequential([keras.Input([1]), layer], name="model")
    >>> recorder = CallRecorder()
    >>> with recorder.watch(model):
    ...     _ = model(np.array([[1.0], [1e9]], "float32"))
    >>> for call in recorder.calls:
    ...     print(call.path, "-", call.outputs)
    model/exp - 1 of 2 values: 1 inf
    model - 1 of 2 values: 1 inf
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    @contextlib.contextmanager
    def watch(self, model: keras.Model) -> Iterator[None]:
        """Watches all layers of a model; each is left as it was.

        Calls are noted as they end, those inside another one before it.

        Args:
            model: built.
        """
        with contextlib.ExitStack() as stack:
            for operation, path in _operations(model):
                for method in _METHODS:
                    self._replace(stack, operation, path, method)
            yield

    def _replace(
        self,
        stack: contextlib.ExitStack,
        operation: Any,
        path: str,
        method: str,
    ) -> None:
        original = getattr(operation, method, None)
        if original is None:
            return
        own = vars(operation)
        if method in own:
            stack.callback(own.__setitem__, method, original)
        else:
            stack.callback(own.pop, method, None)
        # Not by `setattr`, which Keras watches.
        own[method] = self._wrap(original, operation, path)

    def _wrap(self, original: Callable, operation: Any, path: str) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            made = count_not_finite(outputs)
            if made.bad and not count_not_finite((args, kwargs)).bad:
                self.calls.append(Call(path, operation, made))
            return outputs

        return call


def count_not_finite(values: Any) -> Count:
    """Returns how many numbers in a nested structure are not finite.

    What has no value, such as a tensor of a graph, counts as finite.

    Args:
        values: tensors in any structure.
    """
    total = Count()
    for leaf in keras.tree.flatten(values):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and not isinstance(leaf, float):
            continue
        try:
            array = np.asarray(leaf)
        except (NotImplementedError, TypeError, ValueError):
            # A symbol: of TensorFlow's graphs, of JAX, of Keras.
            continue
        if keras.backend.is_float_dtype(array.dtype.name):
            infinite = np.isinf(array)
            plus = int(np.count_nonzero(infinite & (array > 0)))
            count = Count(
                nan=int(np.count_nonzero(np.isnan(array))),
                plus=plus,
                minus=int(np.count_nonzero(infinite)) - plus,
                size=array.size,
            )
            total = Count(*(a + b for a, b in zip(total, count, strict=True)))
    return total


def _operations(model: keras.Model) -> Iterator[tuple[Any, str]]:
    """Yields all layers, and operations of functional models, with paths."""
    seen: set[int] = set()
    for layer, _, path in named_layers(model):
        seen.add(id(layer))
        yield layer, path
        for operation in getattr(layer, "operations", ()):
            is_layer = isinstance(operation, keras.layers.Layer)
            if not is_layer and id(operation) not in seen:
                seen.add(id(operation))
                yield operation, f"{path}/{operation.name}"
