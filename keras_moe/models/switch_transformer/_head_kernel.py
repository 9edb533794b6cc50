"""The part of the head that a shortlist needs."""

import keras
from keras import ops

from keras_moe.types import Tensor


def head_kernel(
    layer: keras.layers.Layer, size: int, scale: float = 1.0
) -> Tensor:
    """Returns the kernel of the first ids' logits, as floats.

    Args:
        layer: a reversible embedding whose table is its head, or a dense
            layer.
        size: number of ids.
        scale: factor of the kernel.

    Returns:
        `(model_dim, size)`.

    Raises:
        ValueError: if the layer is quantised to anything but int8.
    """
    mode = getattr(layer, "quantization_mode", None)
    if mode not in (None, "int8"):
        raise ValueError(
            "A shortlist needs a head in floats or int8. Received: "
            f"quantization_mode={mode!r}."
        )
    if isinstance(layer, keras.layers.Embedding):
        kernel = ops.transpose(layer.embeddings[:size])
        if mode == "int8":
            kernel = ops.cast(kernel, layer.compute_dtype)
            kernel = kernel / ops.transpose(layer.embeddings_scale[:size])
    else:
        kernel = layer.kernel[:, :size]
        if mode == "int8":
            kernel = ops.cast(kernel, layer.compute_dtype)
            kernel = kernel / layer.kernel_scale[:size]
    return kernel * scale
