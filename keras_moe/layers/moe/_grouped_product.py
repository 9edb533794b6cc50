"""One product for each expert, of the few rows of a decoding step.

Rows are parted by expert, multiplied, and put together again: no slot, no
queue, no sort. The two hundred small operations around slots take longer, for
one token, than half of the products of its expert. Where a row is known to be
alone, the kernel of its expert is looked up, and the others need no product of
no rows: of 64 experts those took half as long as the products of the one.
"""

import functools
from collections.abc import Callable
from collections.abc import Sequence

import keras
from keras import ops

from keras_moe.backend import apply_by_group
from keras_moe.backend import is_halved
from keras_moe.layers.moe._expert_functions import expert_functions
from keras_moe.types import Tensor

# A token's one choice of expert, or two. More rows often share experts.
_LONE_ROWS = (1, 2)


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
        return apply_by_group(expert_functions(bank), rows, expert)
    kernel = ops.cast(bank.kernel, bank.compute_dtype)
    if rows.shape[0] in _LONE_ROWS:
        outputs = [
            _product_of_one(rows[i : i + 1], kernel, expert[i])
            for i in range(rows.shape[0])
        ]
        return ops.concatenate(outputs, axis=0)
    if not is_halved(kernel):
        kernels = ops.unstack(kernel, axis=0)
        return apply_by_group(_products(kernels), rows, expert)
    # Two halves of each product, which run side by side.
    halves = ops.unstack(_cut(kernel), axis=0)
    left, right = ops.split(rows, 2, axis=1)
    upper = apply_by_group(_products(halves[::2]), left, expert)
    return upper + apply_by_group(_products(halves[1::2]), right, expert)


def _product_of_one(row: Tensor, kernel: Tensor, expert: Tensor) -> Tensor:
    """Returns the product of one row; TensorFlow copies no kernel for it."""
    if not is_halved(kernel):
        return ops.matmul(row, kernel[expert])
    upper, lower = 2 * expert, 2 * expert + 1
    halves = _cut(kernel)
    left, right = ops.split(row, 2, axis=1)
    return ops.matmul(left, halves[upper]) + ops.matmul(right, halves[lower])


def _cut(kernel: Tensor) -> Tensor:
    """Returns all halves, `(2 * experts, inputs / 2, outputs)`."""
    experts, inputs, outputs = kernel.shape
    return ops.reshape(kernel, (2 * experts, inputs // 2, outputs))


def _products(kernels: Sequence[Tensor]) -> list[Callable[[Tensor], Tensor]]:
    return [functools.partial(ops.matmul, x2=kernel) for kernel in kernels]
