"""The part that runs a model on all devices of a mesh."""

from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras_moe.distribution._dtensor_engine import DTensorEngine
    from keras_moe.distribution._model_parallel_engine import (
        ModelParallelEngine,
    )


def engine(
    layouts: keras.distribution.DeviceMesh | keras.distribution.LayoutMap,
) -> "DTensorEngine | ModelParallelEngine":
    """Returns the engine that spreads models over the devices of a mesh.

    On the TensorFlow backend it is a `DTensorEngine`, on JAX a
    `ModelParallelEngine`, which wraps `keras.distribution.ModelParallel`. Both
    have the same methods.

    Args:
        layouts: the mesh, on which each model lies as its layers say
            (`keras_moe.distribution.layout_map`); or a layout map of one's own:
            weights whose paths match nothing are then whole on each device, and
            kernels of experts must match.

    Raises:
        RuntimeError: on another backend; on TensorFlow, if its environment
            lets DTensor read variables before they are written (see
            `DTensorEngine`).

    Example:

    >>> mesh = keras_moe.distribution.device_mesh(devices=["cpu:0"])
    >>> engine = keras_moe.distribution.engine(mesh)
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> model.compile("adam", "mse")
    >>> engine.distribute(model)
    >>> history = model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    >>> engine.gather(model)  # on one device again
    """
    kinds = keras.distribution.DeviceMesh, keras.distribution.LayoutMap
    if not isinstance(layouts, kinds):
        raise ValueError(
            "`layouts` must be a keras.distribution.DeviceMesh or a "
            "keras.distribution.LayoutMap, as `device_mesh` and `layout_map` "
            "of keras_moe.distribution return. "
            f"Received: layouts={layouts!r}."
        )
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from keras_moe.distribution._dtensor_engine import DTensorEngine

        return DTensorEngine(layouts)
    if backend == "jax":
        from keras_moe.distribution._model_parallel_engine import (
            ModelParallelEngine,
        )

        return ModelParallelEngine(layouts)
    raise RuntimeError(
        "Models can be spread over devices on Keras's TensorFlow and JAX "
        f"backends. Received: keras.backend.backend()={backend!r}."
    )
