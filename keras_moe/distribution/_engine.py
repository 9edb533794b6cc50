"""The part that runs a model on all devices of a mesh."""

from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras_moe.distribution._dtensor_engine import DTensorEngine
    from keras_moe.distribution._model_parallel_engine import (
        ModelParallelEngine,
    )


def engine(
    layout_map: keras.distribution.LayoutMap,
) -> "DTensorEngine | ModelParallelEngine":
    """Returns what spreads models over devices as a layout map says.

    On the TensorFlow backend it is a `DTensorEngine`, on JAX a
    `ModelParallelEngine`, which wraps `keras.distribution.ModelParallel`. Both
    have the same methods.

    Args:
        layout_map: the layouts of weights, such as
            `keras_moe.distribution.layout_map` returns.

    Raises:
        RuntimeError: on another backend; on TensorFlow, if its environment
            lets DTensor read variables before they are written (see
            `DTensorEngine`).

    Example:

    >>> mesh = keras_moe.distribution.device_mesh(devices=["cpu:0"])
    >>> layouts = keras_moe.distribution.layout_map(mesh)
    >>> engine = keras_moe.distribution.engine(layouts)
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> model.compile("adam", "mse")
    >>> engine.distribute(model)
    >>> history = model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    >>> engine.gather(model)  # on one device again
    """
    if not isinstance(layout_map, keras.distribution.LayoutMap):
        raise ValueError(
            "`layout_map` must be a keras.distribution.LayoutMap, as "
            "`keras_moe.distribution.layout_map(mesh)` returns. Received: "
            f"layout_map={layout_map!r}."
        )
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from keras_moe.distribution._dtensor_engine import DTensorEngine

        return DTensorEngine(layout_map)
    if backend == "jax":
        from keras_moe.distribution._model_parallel_engine import (
            ModelParallelEngine,
        )

        return ModelParallelEngine(layout_map)
    raise RuntimeError(
        "Models can be spread over devices on Keras's TensorFlow and JAX "
        f"backends. Received: keras.backend.backend()={backend!r}."
    )
