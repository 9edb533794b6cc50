"""Checks of losses and thresholds, each with one wording for all callers."""

import numpy as np
from numpy.typing import ArrayLike

from keras_moe.validation import check_in_unit_interval


def to_losses(losses: ArrayLike) -> np.ndarray:
    """Returns losses as float64 `[n, m]`.

    Args:
        losses: one row per example, one column per threshold.

    Raises:
        ValueError: if there are none, or some are not in [0, 1].
    """
    array = np.asarray(losses, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            "`losses` must have the shape [n, m], one row per example and one "
            f"column per threshold. Received: losses.shape={array.shape}."
        )
    check_in_unit_interval("losses", array)
    return array


def to_thresholds(thresholds: ArrayLike, correction: str) -> np.ndarray:
    """Returns thresholds as float64 `[m]`.

    Args:
        thresholds: distinct numbers.
        correction: name of the procedure; `"fixed_sequence"` wants an order.

    Raises:
        ValueError: if there are none, or some are not finite, or equal, or
            not in order.
    """
    array = np.asarray(thresholds, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            "`thresholds` must have the shape [m], with one threshold at "
            f"least. Received: thresholds.shape={array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            "`thresholds` must be finite. Received: thresholds="
            f"{array.tolist()}."
        )
    steps = np.diff(array)
    if correction == "fixed_sequence" and not (
        (steps > 0).all() or (steps < 0).all()
    ):
        raise ValueError(
            "`thresholds` must strictly decrease or strictly increase, from "
            "the safest on, for correction='fixed_sequence': they are tested "
            f"in this order. Received: thresholds={array.tolist()}."
        )
    if len(np.unique(array)) != len(array):
        raise ValueError(
            "`thresholds` must be distinct. Received: thresholds="
            f"{array.tolist()}."
        )
    return array
