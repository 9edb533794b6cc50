"""Which cache suits the compiler."""

from keras_moe.backend import shapes_must_be_static
from keras_moe.layers import AttentionCache
from keras_moe.layers import KeyValueCache


def choose_cache(static_shapes: bool) -> type[AttentionCache]:
    """Returns how attention keeps the positions of a decoding loop.

    Args:
        static_shapes: whether shapes must not grow. Where XLA compiles the
            loop, or the backend knows no other, they do not in any case.
    """
    if static_shapes or shapes_must_be_static():
        return KeyValueCache
    # Imported only where it is wanted, since it needs TensorFlow.
    from keras_moe.generation._in_place_cache import InPlaceCache

    return InPlaceCache
