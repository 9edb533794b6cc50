"""One product for each expert, of the few rows of a decoding step.

Rows are parted by expert, multiplied, and put together again: no slot, no
queue, no sort. The two hundred small operations around slots take longer, for
one token, than half of the products of its expert.
"""

from collections.abc import Callable
from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from keras_moe.backend import is_halved
from keras_moe.layers.moe._expert_functions import expert_functions
from keras_moe.types import Tensor


def grouped_product(
    bank: keras.layers.EinsumDense, rows: Tensor, expert: Tensor
) -> Tensor:
    """Returns the product of each row with its expert's kernel.

    Args:
        bank: a bank of `keras_moe.layers.Experts`, built.
        rows: `(n, inputs)`.
        expert: int32 `(n,)`, each row's expert.

    Returns:
        `(n, outputs)`.
    """
    if bank.bias is not None or bank.quantization_mode is not None:
        return _apply(expert_functions(bank), rows, expert)
    kernel = ops.cast(bank.kernel, bank.compute_dtype)
    if not is_halved(kernel):
        return _apply(_products(tf.unstack(kernel)), rows, expert)
    # Two halves of each product, which run side by side.
    experts, inputs, outputs = kernel.shape
    halves = tf.reshape(kernel, (2 * experts, inputs // 2, outputs))
    halves = tf.unstack(halves)
    upper, lower = _products(halves[::2]), _products(halves[1::2])
    left, right = tf.split(rows, 2, axis=1)
    return _apply(upper, left, expert) + _apply(lower, right, expert)


def _products(kernels: Sequence[Tensor]) -> list[Callable]:
    return [lambda rows, by=kernel: tf.matmul(rows, by) for kernel in kernels]


def _apply(
    functions: Sequence[Callable], rows: Tensor, expert: Tensor
) -> Tensor:
    parts = tf.dynamic_partition(rows, expert, len(functions))
    products = [f(each) for f, each in zip(functions, parts, strict=True)]
    places = tf.range(tf.shape(expert)[0])
    places = tf.dynamic_partition(places, expert, len(functions))
    return tf.dynamic_stitch(places, products)
