"""What runs the code: XLA or not, on which device, with which derivatives."""

import contextlib
import contextvars
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

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


def approximate_top_k(
    x: Tensor, k: int, recall_target: float
) -> tuple[Tensor, Tensor] | None:
    """Returns XLA's own approximate top-k, where there is hardware for it.

    XLA has the operation on all devices, but reduces on TPUs alone; elsewhere
    it sorts. Untested on TPU hardware.

    Args:
        x: floating point `[..., n]`, without NaN.
        k: how many to return, at most `n`.
        recall_target: in (0, 1]; XLA takes at least as many bins as it needs.

    Returns:
        `[..., k]` values and int32 indices, the greatest first; `None` where
        the code does not run on a TPU.
    """
    if accelerator() != "TPU":
        return None
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.approx_max_k(x, k, recall_target=recall_target)
    import tensorflow as tf

    return tuple(tf.math.approx_max_k(x, k, recall_target=recall_target))


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns the gradient of a function's sum, of the shape of `x`.

    Args:
        function: of a tensor like `x`; differentiable.
        x: floating point.

    Raises:
        RuntimeError: on a backend other than TensorFlow.
    """
    _refuse_to_differentiate()
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        total = keras.ops.sum(function(x))
    found = tape.gradient(total, x)
    return tf.zeros_like(x) if found is None else found


def jacobian(model: keras.Model, x: Any) -> list[np.ndarray]:
    """Returns the derivatives of a model's outputs by its trainable weights.

    Args:
        model: of one output `[n, outputs]`; run as in inference.
        x: its inputs for n examples.

    Returns:
        For each weight, float32 `[n, outputs, size]`.

    Raises:
        RuntimeError: on a backend other than TensorFlow.
    """
    _refuse_to_differentiate()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(x, training=False)
    found = tape.jacobian(
        outputs,
        [variable.value for variable in model.trainable_variables],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    # Derivatives by a table that is looked up may be sparse.
    whole = [np.asarray(tf.convert_to_tensor(each)) for each in found]
    return [
        each.astype("float32").reshape([*each.shape[:2], -1]) for each in whole
    ]


def _refuse_to_differentiate() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Derivatives are taken on the TensorFlow backend alone. "
            f"Received: {keras.backend.backend()!r}."
        )


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Returns the rows `x[index]`, for indices that are known to be in range.

    `keras.ops.take` lets indices count from the end, too, and for that spends
    six operations more on TensorFlow: a third of the time of a search that
    reads little.

    Args:
        x: `[n, ...]`.
        index: int, each in `[0, n)`, of any shape.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.take(x, index, axis=0)
    import tensorflow as tf

    return tf.gather(keras.ops.convert_to_tensor(x), index)


def gather_in_rows(x: Tensor, index: Tensor) -> Tensor:
    """Returns `x[i, index[i, j]]`, for indices that are known to be in range.

    One operation on TensorFlow: see `gather_rows`.

    Args:
        x: `[n, m]`.
        index: int `[n, k]`, each in `[0, m)`.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.take_along_axis(x, index, axis=1)
    import tensorflow as tf

    return tf.gather(x, index, batch_dims=1)


def index_of_greatest(x: Tensor) -> Tensor:
    """Returns where the last axis is greatest, for values without -0.0.

    `keras.ops.argmax` looks at the sign of zeros, and for that spends five
    operations more on TensorFlow. One of them, `BitwiseAnd`, LiteRT lacks.

    Args:
        x: floating point `[..., n]`.

    Returns:
        int32 `[...]`.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.cast(keras.ops.argmax(x, axis=-1), "int32")
    import tensorflow as tf

    return tf.argmax(x, axis=-1, output_type=tf.int32)


def dot_rows(x: Tensor, y: Tensor) -> Tensor:
    """Returns the dot product of each vector with each row of its own matrix.

    On TensorFlow by an operation that oneDNN does not take over: for a single
    vector its product of batches needs twice the time.

    Args:
        x: float32 `[n, d]`.
        y: float32 `[n, m, d]`.

    Returns:
        float32 `[n, m]`.
    """
    x = keras.ops.expand_dims(x, -1)
    if keras.backend.backend() != "tensorflow":
        return keras.ops.squeeze(keras.ops.matmul(y, x), axis=-1)
    import tensorflow as tf

    product = tf.raw_ops.BatchMatMulV3(x=y, y=x, Tout=tf.float32)
    return tf.squeeze(product, axis=-1)


def join_bytes(codes: Tensor) -> Tensor:
    """Returns strings, each joined of the bytes in a row; 0 is no byte.

    By operations that every model server has: a string variable or a lookup
    table would be neither a weight of Keras's nor in its checkpoints.

    Args:
        codes: uint8 `[..., width]`.

    Returns:
        A tensor of strings, `[...]`.

    Raises:
        RuntimeError: on a backend without strings.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Strings are made on the TensorFlow backend alone: give integers "
            f"as identifiers. Received: {keras.backend.backend()!r}."
        )
    import tensorflow as tf

    letters = tf.constant([b""] + [bytes([i]) for i in range(1, 256)])
    return tf.strings.reduce_join(
        tf.gather(letters, tf.cast(codes, tf.int32)), axis=-1
    )


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
