"""Products of pairs of matrices, by whichever kernel is faster."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.backend import batched_product

ROWS = {"row": (1, 5), "column": (4, 1), "neither": (4, 5)}


def draw(rows, columns, dtype="float32"):
    choose = np.random.default_rng(0)
    shapes = (2, 3, rows, 7), (2, 3, 7, columns)
    return [ops.cast(choose.normal(size=s), dtype) for s in shapes]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("shape", ROWS.values(), ids=ROWS)
def test_it_is_the_product_of_each_pair(shape, jit_compile):
    x, y = draw(*shape)
    multiply = tf.function(batched_product, jit_compile=jit_compile)
    expected = np.matmul(x, y)
    np.testing.assert_allclose(multiply(x, y), expected, rtol=1e-5, atol=1e-5)
    turned = multiply(x, tf.linalg.matrix_transpose(y), transpose_y=True)
    np.testing.assert_allclose(turned, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transpose", [False, True])
def test_a_single_row_has_the_gradient_of_a_product(transpose):
    x, y = draw(1, 5)
    if transpose:
        y = tf.linalg.matrix_transpose(y)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((x, y))
        ours = tf.reduce_sum(batched_product(x, y, transpose) ** 2)
        plain = tf.reduce_sum(tf.matmul(x, y, transpose_b=transpose) ** 2)
    for of_ours, of_plain in zip(
        tape.gradient(ours, (x, y)), tape.gradient(plain, (x, y)), strict=True
    ):
        np.testing.assert_allclose(of_ours, of_plain, rtol=1e-4, atol=1e-4)


def test_a_single_row_stays_in_low_precision():
    x, y = draw(1, 5, "bfloat16")
    product = batched_product(x, y)
    assert product.dtype == tf.bfloat16
    expected = np.matmul(ops.cast(x, "float32"), ops.cast(y, "float32"))
    np.testing.assert_allclose(
        ops.cast(product, "float32"), expected, rtol=0.02, atol=0.05
    )
