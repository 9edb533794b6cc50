"""A record of the layer calls that make numbers not finite."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras

from keras_moe.training.nonfinite._nonfinite_count import NonfiniteCount
from keras_moe.training.nonfinite._nonfinite_count import count_nonfinite
from keras_moe.weights._layer_names import named_layers

_METHODS = ("call", "quantized_call")


class NonfiniteCall(NamedTuple):
    """A call of a layer that made NaN or infinity out of finite numbers.

    Attributes:
        path: path of the layer in the model.
        layer: the layer, or the operation of a functional model.
        outputs: how many numbers of its outputs are not finite.
    """

    path: str
    layer: Any
    outputs: NonfiniteCount


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
        self.calls: list[NonfiniteCall] = []

    @contextlib.contextmanager
    def watch(self, model: keras.Model) -> Iterator[None]:
        """Watches all layers of a model; each is left as it was.

        A call is noted when it ends: inner layers come before their owners.

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
        # `setattr` would let Keras track the function as part of the layer.
        own[method] = self._wrap(original, operation, path)

    def _wrap(self, original: Callable, operation: Any, path: str) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            count = count_nonfinite(outputs)
            if count.total and not count_nonfinite((args, kwargs)).total:
                self.calls.append(NonfiniteCall(path, operation, count))
            return outputs

        return call


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
