"""What runs the code: XLA or not, on which device, by how many replicas."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
import numpy as np

from keras_moe.keras_internals import in_stateless_scope
from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor

_RECORDS_ARE_KEPT = contextvars.ContextVar("records_are_kept", default=True)


def shapes_must_be_static() -> bool:
    """Whether the code being traced will be compiled for static shapes.

    True under XLA (`jit_compile=True`, TPUs), where devices share tensors, and
    on backends that have nothing else. XLA does have bounded dynamic shapes,
    but they save nothing (it computes up to the bound) and fail where one
    depends on another.
    """
    if is_sharded() or keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def value_now(x: Tensor) -> np.ndarray | None:
    """Returns a tensor's numbers; `None` where a graph is being traced.

    For checks of values: where code runs eagerly they raise, in a graph they
    must do without. Tensors that devices share count as unknown.

    Args:
        x: a tensor of the backend.
    """
    if is_sharded() or keras.utils.is_keras_tensor(x):
        return None
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return None if tf.is_symbolic_tensor(x) else np.asarray(x)
    if keras.backend.backend() == "jax":
        import jax

        return None if isinstance(x, jax.core.Tracer) else np.asarray(x)
    return None


def accelerator() -> str:
    """Returns `"TPU"`, `"GPU"` or `"CPU"`: what the layers will run on."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend().upper()
    import tensorflow as tf

    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return "TPU"
    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def num_replicas() -> int:
    """Returns how many replicas of `tf.distribute` train in step."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def loops_keep_metrics() -> bool:
    """Whether Keras's loops keep what a layer's call adds to its metrics.

    Those of the JAX backend take the values of metrics away while a model is
    called, and drop what a call would make of them: a layer that reported its
    metrics there would report 0.
    """
    return keras.backend.backend() != "jax"


def metrics_are_in_reach() -> bool:
    """Whether a layer that is being called can update metrics of its own.

    Not in loops that would drop the update: see `loops_keep_metrics`. Nor where
    nothing that layers record is kept.
    """
    kept = loops_keep_metrics() or not in_stateless_scope()
    return kept and records_are_kept()


def records_are_kept() -> bool:
    """Whether anybody can read what a layer records of the call that runs.

    Nobody can of what is called within `without_traces`.
    """
    return _RECORDS_ARE_KEPT.get()


@contextlib.contextmanager
def without_traces() -> Iterator[None]:
    """Leaves models as they were before the block.

    What layers assign goes to a scope that is thrown away. Losses and metrics
    are not even computed: they would be a third of a sparse layer's operations.
    """
    token = _RECORDS_ARE_KEPT.set(False)
    try:
        with keras.StatelessScope():
            yield
    finally:
        _RECORDS_ARE_KEPT.reset(token)


def refuse_ignored_distribution() -> None:
    """Refuses a `keras.distribution` where Keras would ignore it.

    Raises:
        RuntimeError: if `keras.distribution.set_distribution` was called on
            the TensorFlow backend; only JAX's acts upon it.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or keras.backend.backend() != "tensorflow":
        return
    raise RuntimeError(
        "Keras's TensorFlow backend ignores `keras.distribution`: all would "
        "run on one device. Use `keras_moe.distribution.engine(mesh)` "
        "for models that are spread over devices, or "
        "`keras_moe.distribution.strategy(kind)` for batches that are, and "
        "`keras.distribution.set_distribution(None)`. Received: a "
        f"`{type(distribution).__name__}` that was set."
    )


def refuse_recomputation(layer: keras.layers.Layer) -> None:
    """Refuses to train a layer whose gradient will come from a second call.

    Recomputation hides the first call from gradients and makes a second one in
    the backward pass. What a call does besides returning outputs goes wrong
    without an error: losses that it adds have no gradient, state that it moves
    moves twice, and the second call draws other random numbers. On JAX, such
    losses are tracers out of their scope, which raise by themselves.

    Args:
        layer: the layer that is being called in training.

    Raises:
        RuntimeError: in what `keras.remat`, `keras.RematScope` or
            `tf.recompute_grad` recompute, and in what else is hidden from
            gradients.
    """
    if keras.backend.backend() != "tensorflow":
        return
    from tensorflow.python import pywrap_tfe

    if pywrap_tfe.TFE_Py_TapeSetIsStopped():
        raise RuntimeError(
            f"A `{type(layer).__name__}` cannot be trained within `keras."
            "remat`, `keras.RematScope`, `tf.recompute_grad` or another "
            "function that hides it from gradients: the losses that it adds "
            "would have no gradient, and its state would move twice. Recompute "
            "only layers around it. Received: a call in training of "
            f"{layer.path!r}."
        )
