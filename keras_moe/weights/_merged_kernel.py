"""The kernel that a linear layer amounts to."""

import keras
from keras import ops

from keras_moe.keras_internals import stored_kernel
from keras_moe.types import Tensor


def merged_kernel(
    layer: keras.layers.Dense | keras.layers.EinsumDense,
) -> Tensor:
    """Returns a built layer's kernel, dequantised and with LoRA merged.

    Under int8 the layer's own `kernel` is raw integers.

    Args:
        layer: a `keras.layers.Dense`, or a bank of `keras_moe.layers.Experts`.

    Returns:
        float32, of the shape of the kernel.

    Raises:
        ValueError: if the layer is quantised otherwise than to int8.
    """
    if layer.quantization_mode not in (None, "int8"):
        raise ValueError(
            "A layer must be in floating point or int8 for its kernel to be "
            f"read. Received: layer={layer.path}, with quantization_mode="
            f"{layer.quantization_mode!r}."
        )
    kernel = ops.cast(ops.convert_to_tensor(stored_kernel(layer)), "float32")
    if layer.quantization_mode == "int8":
        # (outputs,), or (1, experts, 1, outputs) for a bank.
        scale = ops.cast(ops.convert_to_tensor(layer.kernel_scale), "float32")
        kernel = kernel / (scale if len(scale.shape) == 1 else scale[0])
    if layer.lora_enabled:
        kernel = kernel + layer.lora_alpha / layer.lora_rank * ops.matmul(
            ops.convert_to_tensor(layer.lora_kernel_a),
            ops.convert_to_tensor(layer.lora_kernel_b),
        )
    return kernel
