"""Products of few rows, each cut into two that run side by side.

A product of the one row of a decoding step reads its kernel once, as fast as
one core can: TensorFlow gives such a product one thread, or two that wait for
each other. Where operations run side by side, two halves of it read by two
cores. On two cores 768 by 3072 takes 0.6 of the time.
"""

import keras

from keras_moe.backend._running import accelerator
from keras_moe.backend._running import shapes_must_be_static
from keras_moe.types import Tensor

# Entries of a kernel below which there is nothing to gain.
_FEW_ENTRIES = 2**18


def is_halved(kernel: Tensor) -> bool:
    """Says whether `product_in_halves` cuts the products of a kernel.

    Where TensorFlow was told to give an operation one thread, and more than one
    to all of them:

    ```
    tf.config.threading.set_intra_op_parallelism_threads(1)
    ```

    Asked when a function is traced. With several threads an operation TensorFlow
    cuts products itself, and halves of ours would be slower.

    Args:
        kernel: `[..., inputs, outputs]`, of a static shape.
    """
    inputs, outputs = kernel.shape[-2:]
    if inputs % 2 or inputs * outputs < _FEW_ENTRIES:
        return False
    if keras.backend.backend() != "tensorflow" or accelerator() != "CPU":
        return False
    import tensorflow as tf

    threads = tf.config.threading
    return (
        threads.get_intra_op_parallelism_threads() == 1
        and threads.get_inter_op_parallelism_threads() != 1
        and not shapes_must_be_static()
    )


def product_in_halves(rows: Tensor, kernel: Tensor) -> Tensor:
    """Returns `rows @ kernel`, in two halves if `is_halved(kernel)`.

    Args:
        rows: `[n, inputs]`.
        kernel: `[inputs, outputs]`.

    Returns:
        `[n, outputs]`.
    """
    if not is_halved(kernel):
        return keras.ops.matmul(rows, kernel)
    import tensorflow as tf

    return sum_of_halves(rows, tf.split(kernel, 2))


def sum_of_halves(rows: Tensor, halves: list[Tensor]) -> Tensor:
    """Returns the product of rows with a kernel that was cut.

    Args:
        rows: `[n, inputs]`.
        halves: the kernel's first and last rows, `[inputs / 2, outputs]` each:
            TensorFlow copies neither.
    """
    import tensorflow as tf

    left, right = tf.split(rows, 2, axis=1)
    return tf.matmul(left, halves[0]) + tf.matmul(right, halves[1])
