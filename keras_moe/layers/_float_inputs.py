"""Inputs that must be numbers of a network, not ids."""

import keras

from keras_moe.types import Tensor


def check_float(**states: Tensor | None) -> None:
    """Raises `ValueError` for integers, which a product would take for states.

    Args:
        **states: tensors, symbolic or not, by the names of the arguments.
    """
    for name, value in states.items():
        if value is None:
            continue
        dtype = keras.backend.standardize_dtype(value.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`{name}` must be floating-point states, as an embedding "
                f"gives them for token ids. Received: {name}.dtype={dtype}."
            )
