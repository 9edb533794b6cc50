"""Which cache suits the compiler."""

import keras

from keras_moe.layers import AttentionCache
from keras_moe.layers import KeyValueCache


def choose_cache(static_shapes: bool) -> type[AttentionCache]:
    """Returns how attention keeps the positions of a decoding loop.

    Args:
        static_shapes: whether XLA will compile the loop: shapes must not grow.
    """
    if static_shapes or keras.backend.backend() != "tensorflow":
        return KeyValueCache
    # Imported only where it is wanted, since it needs TensorFlow.
    from keras_moe.generation._tensor_array_cache import TensorArrayCache

    return TensorArrayCache
