"""The weights that a model amounts to without LoRA."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_moe.keras_internals import stored_kernel
from keras_moe.weights._lazy_array import LazyArray
from keras_moe.weights._merged_kernel import merged_kernel
from keras_moe.weights._named_weights import named_weights
from keras_moe.weights._named_weights import without_state


def merged_weights(
    model: keras.Model, layers: Iterable[keras.layers.Layer]
) -> dict[str, Any]:
    """Names a model's weights, with LoRA of some layers merged when read.

    Args:
        model: built.
        layers: layers of the model; those that have no LoRA stay as they are.

    Returns:
        Name to array, for `transfer`. Factors of low rank are not among them.
    """
    named: dict[str, Any] = without_state(named_weights(model), model)
    names = {id(weight): name for name, weight in named.items()}
    for layer in layers:
        if not getattr(layer, "lora_enabled", False):
            continue
        kernel = stored_kernel(layer)
        named[names[id(kernel)]] = LazyArray(
            tuple(kernel.shape), kernel.dtype, _reader(layer, kernel.dtype)
        )
        for factor in (layer.lora_kernel_a, layer.lora_kernel_b):
            del named[names[id(factor)]]
    return named


def _reader(layer: Any, dtype: Any) -> Any:
    return lambda: ops.convert_to_numpy(ops.cast(merged_kernel(layer), dtype))
