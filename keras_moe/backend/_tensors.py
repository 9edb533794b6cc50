"""Operations on tensors that `keras.ops` lacks, or has slower."""

from collections.abc import Callable
from collections.abc import Sequence

import keras

from keras_moe.backend._running import accelerator
from keras_moe.backend._running import shapes_must_be_static
from keras_moe.types import Tensor


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


def batched_product(x: Tensor, y: Tensor, transpose_y: bool = False) -> Tensor:
    """Returns `x @ y` for each pair of matrices.

    For single rows, such as the query of a decoding step, and single columns
    on TensorFlow by an operation that oneDNN does not take over: its product of
    batches needs twice the time.

    Args:
        x: `[..., n, k]`.
        y: `[..., k, m]`, of the same leading axes.
        transpose_y: whether `y` is `[..., m, k]`.

    Returns:
        `[..., n, m]`.
    """
    single = 1 in (x.shape[-2], y.shape[-2 if transpose_y else -1])
    if single and _onednn_may_multiply(x, y):
        import tensorflow as tf

        return tf.raw_ops.BatchMatMulV3(
            x=x, y=y, adj_y=transpose_y, Tout=tf.float32
        )
    if transpose_y:
        y = keras.ops.swapaxes(y, -2, -1)
    return keras.ops.matmul(x, y)


def _onednn_may_multiply(x: Tensor, y: Tensor) -> bool:
    """Says whether TensorFlow's own kernels will multiply float32."""
    if keras.backend.backend() != "tensorflow" or shapes_must_be_static():
        return False
    dtypes = {keras.backend.standardize_dtype(each.dtype) for each in (x, y)}
    return dtypes == {"float32"}


def apply_by_group(
    functions: Sequence[Callable[[Tensor], Tensor]],
    rows: Tensor,
    group: Tensor,
) -> Tensor:
    """Applies to each row the function of its group.

    On TensorFlow without XLA alone: each function gets as many rows as there
    are in its group.

    Args:
        functions: one a group, of `[m, inputs]` to `[m, outputs]`.
        rows: `[n, inputs]`.
        group: int32 `[n]`, the number of each row's function.

    Returns:
        `[n, outputs]`.
    """
    import tensorflow as tf

    count = len(functions)
    parts = tf.dynamic_partition(rows, group, count)
    places = tf.range(tf.shape(group)[0])
    places = tf.dynamic_partition(places, group, count)
    outputs = [f(part) for f, part in zip(functions, parts, strict=True)]
    return tf.dynamic_stitch(places, outputs)


def dot_rows(x: Tensor, y: Tensor) -> Tensor:
    """Returns the dot product of each vector with each row of its own matrix.

    Args:
        x: float32 `[n, d]`.
        y: float32 `[n, m, d]`.

    Returns:
        float32 `[n, m]`.
    """
    product = batched_product(y, keras.ops.expand_dims(x, -1))
    return keras.ops.squeeze(product, axis=-1)


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
