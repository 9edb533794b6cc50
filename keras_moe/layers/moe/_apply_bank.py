"""One linear layer of all experts at once."""

import keras
from keras import ops

from keras_moe.types import Tensor


def apply_bank(bank: keras.layers.EinsumDense, rows: Tensor) -> Tensor:
    """Applies a bank to `[experts, rows, inputs]`.

    Floating point takes a batched matrix product instead of the bank's einsum:
    on TensorFlow the gradient of an einsum physically transposes the kernels'
    gradients, which for 128 experts took longer than all products together.

    Args:
        bank: a bank of `keras_moe.layers.Experts`, built.
        rows: `[experts, rows, inputs]`.

    Returns:
        `[experts, rows, outputs]`.
    """
    if bank.quantization_mode is not None:
        return bank(ops.expand_dims(rows, 0))[0]  # as one group
    # `bank.kernel` is a property, which has LoRA merged.
    outputs = ops.matmul(rows, ops.cast(bank.kernel, rows.dtype))
    if bank.bias is not None:
        outputs = outputs + ops.cast(bank.bias, rows.dtype)
    return outputs
