"""When values of one dtype may become values of another."""

from typing import Any

import keras
import ml_dtypes
import numpy as np


def dtype_name(dtype: Any) -> str:
    """Returns the name of a dtype of NumPy, Keras or a backend.

    Args:
        dtype: the dtype, or its name.
    """
    try:
        return keras.backend.standardize_dtype(dtype)
    except ValueError:  # one that Keras has not
        return str(dtype)


def may_become(given: Any, wanted: Any, cast: bool) -> bool:
    """Says whether values of one dtype may become values of another.

    Args:
        given: dtype of the values.
        wanted: dtype that they are to have.
        cast: whether floats may be rounded.
    """
    given, wanted = dtype_name(given), dtype_name(wanted)
    floats = "float" in given and "float" in wanted
    return given == wanted or (cast and floats)


def same_integers(array: Any, wanted: Any) -> np.ndarray | None:
    """Returns integers in another width; `None` if they do not fit in there.

    Args:
        array: of any dtype, read by `np.asarray`.
        wanted: dtype that the values are to have.
    """
    wanted = dtype_name(wanted)
    if not ("int" in dtype_name(array.dtype) and "int" in wanted):
        return None
    value = np.asarray(array)
    fitting = value.astype(wanted)
    return fitting if np.array_equal(fitting, value) else None


def to_dtype(name: str, value: np.ndarray, wanted: Any) -> np.ndarray:
    """Rounds values to a dtype.

    Args:
        name: whose values they are.
        value: of the same kind.
        wanted: dtype that they are to have.

    Raises:
        ValueError: if a finite value would become infinite, or the dtypes are
            not of one kind.
    """
    wanted = dtype_name(wanted)
    if value.dtype.name == wanted:
        return value
    if not may_become(value.dtype, wanted, cast=True):
        raise ValueError(
            f"The value of {name!r} must be {wanted}. Received: "
            f"{value.dtype.name}."
        )
    with np.errstate(over="ignore"):
        rounded = value.astype(getattr(ml_dtypes, wanted, wanted))
    if np.any(np.isfinite(value) & ~np.isfinite(rounded)):
        raise ValueError(
            f"The values of {name!r} must be small enough for {wanted}. "
            f"Received: {np.abs(value[np.isfinite(value)]).max()}."
        )
    return rounded
