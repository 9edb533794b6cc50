"""Which of many hypotheses may be rejected at once.

Each keeps the chance of rejecting any true one at or below the level,
however the p-values depend on one another.
"""

import numpy as np
from numpy.typing import ArrayLike

from keras_moe.validation import check_fraction
from keras_moe.validation import check_in_unit_interval


def fixed_sequence(p_values: ArrayLike, level: float) -> np.ndarray:
    """Accepts hypotheses from the first on, up to the first that fails.

    Each is tested at the whole level. The order must be fixed without looking
    at the losses, and the hypothesis likeliest to pass should come first.

    Source: Learn then Test, arXiv:2110.01052.

    Args:
        p_values: `[m]`, in the order of testing.
        level: allowed chance of accepting any whose hypothesis is true.

    Returns:
        bool `[m]`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> keras_moe.calibration.fixed_sequence([0.01, 0.04, 0.3, 0.01], 0.05)
    array([ True,  True, False, False])
    """
    p_values = _check(p_values, level)
    return np.logical_and.accumulate(p_values <= level)


def bonferroni(p_values: ArrayLike, level: float) -> np.ndarray:
    """Accepts each p-value within the m-th part of the level, in any order.

    Args:
        p_values: `[m]`.
        level: allowed chance of accepting any whose hypothesis is true.

    Returns:
        bool `[m]`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> keras_moe.calibration.bonferroni([0.01, 0.04, 0.3, 0.01], 0.05)
    array([ True, False, False,  True])
    """
    p_values = _check(p_values, level)
    return p_values <= level / len(p_values)


def holm(p_values: ArrayLike, level: float) -> np.ndarray:
    """Accepts in the order of the p-values, each at its part of the level.

    The smallest p-value must be within the m-th part of the level, the next
    within one of `m - 1` parts, and so on up to the first that fails.
    Everything that `bonferroni` accepts is accepted here, too.

    Source: Holm, 1979, "A simple sequentially rejective multiple test
    procedure".

    Args:
        p_values: `[m]`.
        level: allowed chance of accepting any whose hypothesis is true.

    Returns:
        bool `[m]`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> keras_moe.calibration.holm([0.01, 0.02, 0.3, 0.01], 0.05)
    array([ True,  True, False,  True])
    """
    p_values = _check(p_values, level)
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    passed = p_values[order] <= level / np.arange(m, 0, -1)
    accepted = np.zeros(m, bool)
    accepted[order] = np.logical_and.accumulate(passed)
    return accepted


CORRECTIONS = {
    "fixed_sequence": fixed_sequence,
    "bonferroni": bonferroni,
    "holm": holm,
}


def last_accepted(
    p_values: ArrayLike, level: float, correction: str
) -> int | None:
    """Returns the last index that a correction accepts, `None` for none."""
    accepted = np.flatnonzero(CORRECTIONS[correction](p_values, level))
    return int(accepted[-1]) if len(accepted) else None


def _check(p_values: ArrayLike, level: float) -> np.ndarray:
    check_fraction(level=level)
    p_values = np.asarray(p_values, np.float64)
    if p_values.ndim != 1 or not p_values.size:
        raise ValueError(
            "`p_values` must have the shape [m], with one at least. Received: "
            f"p_values.shape={p_values.shape}."
        )
    check_in_unit_interval("p_values", p_values)
    return p_values
