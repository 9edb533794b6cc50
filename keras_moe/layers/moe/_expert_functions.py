"""One function for each expert of a bank, for executors without slots."""

from collections.abc import Callable

import keras
from keras import ops

from keras_moe.keras_internals import stored_kernel
from keras_moe.types import Tensor

# With this many experts or more, each sees few rows of a batch.
_MANY_EXPERTS = 64

ExpertFunction = Callable[[Tensor], Tensor]


def expert_functions(bank: keras.layers.EinsumDense) -> list[ExpertFunction]:
    """Returns, for each expert, the function that the bank computes for it.

    The functions make the same products as the batched call, with int8
    activations quantised row by row and LoRA applied as Keras does, so that all
    executors agree.

    Args:
        bank: a bank of `keras_moe.layers.Experts`, built.

    Returns:
        Functions of `[rows, inputs]` to `[rows, outputs]`.

    Raises:
        ValueError: if the bank is quantised otherwise than to int8.
    """
    if bank.quantization_mode == "int8":
        products = _int8_products(bank)
    elif bank.quantization_mode is None:
        products = _products(bank)
    else:
        raise ValueError(
            "dispatch='ragged' knows floating point and int8. Received: a "
            f"bank with quantization_mode={bank.quantization_mode!r}; use "
            "dispatch='gather' for it."
        )
    if bank.bias is None:
        return products
    biases = _unstack(bank.bias, bank.compute_dtype)  # [1, outputs] each
    return [
        _then_add(product, bias)
        for product, bias in zip(products, biases, strict=True)
    ]


def _products(bank: keras.layers.EinsumDense) -> list[ExpertFunction]:
    # `bank.kernel` is a property, which has LoRA merged.
    kernels = _unstack(bank.kernel, bank.compute_dtype)
    few_rows = len(kernels) >= _MANY_EXPERTS
    return [_multiply_by(kernel, few_rows) for kernel in kernels]


def _multiply_by(kernel: Tensor, few_rows: bool) -> ExpertFunction:
    if not few_rows:
        return lambda rows: ops.matmul(rows, kernel)

    @ops.custom_gradient
    def product(rows, kernel):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            # For few rows, a product with the large matrix on the left is a
            # third faster.
            turned = ops.matmul(kernel, ops.transpose(upstream))
            of_kernel = ops.matmul(ops.transpose(rows), upstream)
            return ops.transpose(turned), of_kernel

        return ops.matmul(rows, kernel), gradient

    return lambda rows: product(rows, kernel)


def _then_add(product: ExpertFunction, bias: Tensor) -> ExpertFunction:
    return lambda rows: product(rows) + bias


def _int8_products(bank: keras.layers.EinsumDense) -> list[ExpertFunction]:
    dtype = bank.compute_dtype
    kernels = ops.unstack(ops.convert_to_tensor(stored_kernel(bank)), axis=0)
    # [1, experts, 1, outputs]
    scales = _unstack(bank.kernel_scale[0], dtype)
    products = [
        _int8_product(bank.inputs_quantizer, kernel, scale, dtype)
        for kernel, scale in zip(kernels, scales, strict=True)
    ]
    if not bank.lora_enabled:
        return products
    factor = bank.lora_alpha / bank.lora_rank
    # The factors stay float32, unless the layer's call casts its variables.
    shared = ops.convert_to_tensor(bank.lora_kernel_b)
    own = ops.unstack(ops.convert_to_tensor(bank.lora_kernel_a), axis=0)
    return [
        _then_add_lora(product, inner, shared, factor)
        for product, inner in zip(products, own, strict=True)
    ]


def _int8_product(
    quantizer: Callable | None, kernel: Tensor, scale: Tensor, dtype: str
) -> ExpertFunction:
    # Rounding has no gradient: take the dequantised kernel's, as Keras does.
    @ops.custom_gradient
    def product(rows):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            dequantised = ops.cast(kernel, dtype) / scale
            return ops.matmul(upstream, ops.transpose(dequantised))

        if quantizer is None:  # quantised in weights alone
            return ops.matmul(rows, ops.cast(kernel, dtype)) / scale, gradient
        # An expert without tokens has no rows, of which Keras's quantiser
        # cannot take the maximum: add a row, and drop it below.
        padded = ops.pad(rows, ((0, 1), (0, 0)))
        quantised, row_scale = quantizer(padded, axis=-1)
        exact = ops.cast(ops.matmul(quantised, kernel), dtype)
        return (exact / (row_scale * scale))[:-1], gradient

    return product


def _then_add_lora(
    product: ExpertFunction, own: Tensor, shared: Tensor, factor: float
) -> ExpertFunction:
    def apply(rows):
        low_rank = ops.matmul(ops.matmul(rows, own), shared)
        # `ops.add` would fail for an expert without rows.
        outputs = ops.cast(product(rows), low_rank.dtype)
        return ops.cast(outputs + factor * low_rank, rows.dtype)

    return apply


def _unstack(weight: Tensor, dtype: str) -> list[Tensor]:
    # The gradient of each slice `weight[e]` would be as large as the bank;
    # `unstack` stacks the gradients once.
    return ops.unstack(ops.cast(ops.convert_to_tensor(weight), dtype), axis=0)
