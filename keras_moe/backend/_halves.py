"""Work of few rows, cut into two parts that run side by side.

A product of the one row of a decoding step reads its kernel once, as fast as
one core can: TensorFlow gives such a product one thread, or two that wait for
each other. Where operations run side by side, two halves of it read by two
cores. On two cores 768 by 3072 takes 0.6 of the time.
"""

from collections.abc import Callable

import keras

from keras_moe.backend._running import accelerator
from keras_moe.backend._running import shapes_must_be_static
from keras_moe.types import Tensor

# Entries of a kernel below which there is nothing to gain.
_FEW_ENTRIES = 2**18


def runs_side_by_side() -> bool:
    """Says whether two operations run at once, and neither with two threads.

    Where TensorFlow was told to give an operation one thread, and more than one
    to all of them:

    ```
    tf.config.threading.set_intra_op_parallelism_threads(1)
    ```

    Asked when a function is traced. With more threads TensorFlow cuts products
    by itself, and halves of ours would be slower.
    """
    if keras.backend.backend() != "tensorflow" or accelerator() != "CPU":
        return False
    import tensorflow as tf

    threads = tf.config.threading
    return (
        threads.get_intra_op_parallelism_threads() == 1
        and threads.get_inter_op_parallelism_threads() != 1
        and not shapes_must_be_static()
    )


def is_halved(kernel: Tensor) -> bool:
    """Says whether products with a kernel are cut into two halves.

    Large ones are, where a process `runs_side_by_side`.

    Args:
        kernel: `[..., inputs, outputs]`, of a static shape.
    """
    inputs, outputs = kernel.shape[-2:]
    if inputs % 2 or inputs * outputs < _FEW_ENTRIES:
        return False
    return runs_side_by_side()


def product_in_halves(rows: Tensor, kernel: Tensor) -> Tensor:
    """Returns `rows @ kernel` as a sum, for a kernel that `is_halved`.

    TensorFlow copies neither half of a kernel.

    Args:
        rows: `[n, inputs]`.
        kernel: `[inputs, outputs]`.

    Returns:
        `[n, outputs]`.
    """
    import tensorflow as tf

    upper, lower = tf.split(kernel, 2)
    left, right = tf.split(rows, 2, axis=1)
    return tf.matmul(left, upper) + tf.matmul(right, lower)


def rows_in_halves(
    function: Callable[..., Tensor], *arrays: Tensor | None
) -> Tensor:
    """Returns `function(*arrays)`, computed for two halves of the rows.

    On TensorFlow alone, which copies none of the arrays.

    Args:
        function: of arrays to an array, of as many rows.
        *arrays: `[rows, ...]`, or `[1, ...]` to be broadcast; `None` stays.
    """
    import tensorflow as tf

    given = [tf.shape(array)[0] for array in arrays if array is not None]
    # One row goes with many, and with none.
    rows = tf.where(tf.reduce_any(tf.equal(given, 0)), 0, tf.reduce_max(given))
    half = rows // 2
    # The only row of an array is in both slices.
    first = [a if a is None else a[:half] for a in arrays]
    second = [a if a is None else a[half - rows :] for a in arrays]
    return tf.concat([function(*first), function(*second)], axis=0)
