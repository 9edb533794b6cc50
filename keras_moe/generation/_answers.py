"""What goes into decoding as a number, and what comes out as none."""

import operator
import warnings
from typing import Any

import numpy as np

from keras_moe.backend import value_now
from keras_moe.types import Tensor


def read_max_length(max_length: Any) -> Any:
    """Returns a length as Python's integer, whatever holds it.

    Args:
        max_length: an integer of Python, NumPy or an eager tensor; anything
            else comes back as it is, for a check to refuse.
    """
    if isinstance(max_length, bool):
        return max_length
    try:
        return operator.index(max_length)
    except (TypeError, AttributeError):  # the latter of tensors of floats
        return max_length


def warn_of_nan(answer: dict[str, Tensor]) -> dict[str, Tensor]:
    """Warns, when eager, of rows whose logits were not finite.

    Tokens cannot say so: such a row looks like an empty answer.

    Args:
        answer: what a strategy returned.

    Returns:
        The same.
    """
    scores = answer.get("log_probability")
    found = None if scores is None else value_now(scores)
    if found is not None and np.isnan(found).any():
        rows = np.flatnonzero(np.isnan(found)).tolist()
        warnings.warn(
            "The model's logits were not finite: there is no answer, and "
            f"`log_probability` is NaN, for {len(rows)} of {len(found)} rows, "
            f"the first of them row {rows[0]}. `keras_moe.training."
            "name_nonfinite` says where NaN came from.",
            stacklevel=3,
        )
    return answer
