"""Inputs that must be numbers of a network, not ids."""

import keras

from keras_moe.types import Tensor


def check_float(name: str, value: Tensor) -> None:
    """Raises `ValueError` for integers, which a product would take for states.

    Args:
        name: what an error calls it.
        value: a tensor, symbolic or not.
    """
    dtype = keras.backend.standardize_dtype(value.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"`{name}` must be floating-point states, as an embedding gives "
            f"them for token ids. Received: {name}.dtype={dtype}."
        )
