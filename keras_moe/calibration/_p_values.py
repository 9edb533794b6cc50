"""p-values for the hypothesis that a risk is above its tolerance.

All are valid for finitely many independent losses in [0, 1] (the binary one
for losses that are 0 or 1): where the true risk is at or above the tolerance,
p is at most u with a probability of at most u, for every u.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from keras_moe.validation import check_choice
from keras_moe.validation import check_fraction
from keras_moe.validation import check_in_unit_interval
from keras_moe.validation import check_size

# A name, or a function from losses `[n, m]` and a tolerance to p-values `[m]`.
PValue: TypeAlias = str | Callable[[np.ndarray, float], ArrayLike]

# How far rounding may have moved a mean. Taking the mean for the exact one
# then amounts to a tolerance that is greater by as much.
_ROUNDING = 1e-12


def hoeffding_p_value(
    risk: ArrayLike, n: int, tolerance: float
) -> np.ndarray | np.float64:
    """Returns Hoeffding's p-value, `exp(-2 n (tolerance - risk)_+^2)`.

    The weakest of the p-values here for small risks; kept because papers use
    it.

    Source: CALM, arXiv:2207.07061.

    Args:
        risk: mean losses in [0, 1], of any shape.
        n: number of examples in each mean.
        tolerance: the risk that is to be shown not to be reached.

    Returns:
        float64, of the shape of `risk`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> p = keras_moe.calibration.hoeffding_p_value([0.0, 0.1], 100, 0.1)
    >>> [round(float(p_value), 3) for p_value in p]
    [0.135, 1.0]
    """
    risk = _check(risk, n, tolerance)
    gap = np.maximum(tolerance - risk, 0.0)
    return np.exp(-2.0 * n * gap**2)


def hoeffding_bentkus_p_value(
    risk: ArrayLike, n: int, tolerance: float
) -> np.ndarray | np.float64:
    """Returns the Hoeffding-Bentkus p-value.

    The smaller of Hoeffding's bound in its relative-entropy form,
    `exp(-n kl(min(risk, tolerance), tolerance))`, and of Bentkus's, `e` times
    the probability of at most `ceil(n risk)` ones among n draws of a coin
    with chance `tolerance`. Both bound the same tail, that of the mean, so
    the smaller is valid without a correction.

    Source: Learn then Test, arXiv:2110.01052.

    Args:
        risk: mean losses in [0, 1], of any shape.
        n: number of examples in each mean.
        tolerance: the risk that is to be shown not to be reached.

    Returns:
        float64, of the shape of `risk`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> p = keras_moe.calibration.hoeffding_bentkus_p_value(0.0, 100, 0.1)
    >>> bool(np.isclose(p, 0.9**100))
    True
    """
    risk = _check(risk, n, tolerance)
    a = np.minimum(risk, tolerance)
    # `rel_entr` defines 0 log 0 as 0; with `log`, a risk of 0 would give NaN.
    divergence = special.rel_entr(a, tolerance)
    divergence = divergence + special.rel_entr(1.0 - a, 1.0 - tolerance)
    hoeffding = np.exp(-n * np.maximum(divergence, 0.0))
    bentkus = np.e * special.bdtr(_ceil(risk, n), n, tolerance)
    return np.minimum(np.minimum(hoeffding, bentkus), 1.0)


def binary_p_value(
    risk: ArrayLike, n: int, tolerance: float
) -> np.ndarray | np.float64:
    """Returns the exact p-value of losses that are 0 or 1.

    The probability of at most `n risk` ones among n draws of a coin with
    chance `tolerance`.

    Args:
        risk: mean losses in [0, 1], of any shape; multiples of `1 / n`.
        n: number of examples in each mean.
        tolerance: the risk that is to be shown not to be reached.

    Returns:
        float64, of the shape of `risk`.

    Raises:
        ValueError: if an argument is out of its range, or a mean is not one
            of zeros and ones.

    Example:

    >>> p = keras_moe.calibration.binary_p_value(0.0, 100, 0.1)
    >>> bool(np.isclose(p, 0.9**100))
    True
    """
    risk = _check(risk, n, tolerance)
    ones = np.rint(n * risk)
    off = np.abs(risk - ones / n) > _ROUNDING
    if off.any():
        raise ValueError(
            "`risk` must be a mean of losses that are 0 or 1 for the binary "
            f"p-value. Received: {risk[off].flat[0]}, not a multiple of 1 / "
            f"{n}."
        )
    return special.bdtr(ones, n, tolerance)


def betting_p_value(
    losses: ArrayLike, tolerance: float, level: float = 0.05
) -> np.ndarray | np.float64:
    """Returns the p-value of a gambler against the hypothesis.

    A gambler who starts with 1 bets, example by example, that the next loss
    lies below the tolerance. If the hypothesis holds no strategy gains on
    average, so by Ville's inequality one over the greatest wealth on the way
    is a p-value. The bet on the next loss is `sqrt(2 log(1 / level) / (n
    variance))`, at most 1, with the variance of the losses so far: it adapts
    to losses that vary little, which the other p-values do not know.

    The losses are taken in the order given. Another order gives another
    p-value, as valid; it must be chosen without looking at the losses.

    Sources: Waudby-Smith and Ramdas, arXiv:2010.09686; with these bets in
    Bates et al., arXiv:2101.02703.

    Args:
        losses: in [0, 1], `[n]` or `[n, m]`, one example per row.
        tolerance: the risk that is to be shown not to be reached.
        level: at which the p-value will be compared. It shapes the bets; the
            p-value is valid at every other level as well.

    Returns:
        float64, a scalar or `[m]`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> losses = np.full([200, 1], 0.03)  # always the same
    >>> p = keras_moe.calibration.betting_p_value(losses, 0.1)
    >>> bool(p[0] < 0.001)
    True
    """
    check_fraction(tolerance=tolerance, level=level)
    losses = np.asarray(losses, np.float64)
    if losses.ndim not in (1, 2) or not losses.size:
        raise ValueError(
            "`losses` must have the shape [n] or [n, m]. Received: "
            f"losses.shape={losses.shape}."
        )
    check_in_unit_interval("losses", losses)
    n = len(losses)
    count = np.arange(1, n + 1).reshape(-1, *[1] * (losses.ndim - 1))
    # Mean and variance start from half a made-up example: equal losses would
    # otherwise have a variance of 0, by which bets are divided.
    mean = (0.5 + np.cumsum(losses, axis=0)) / (1 + count)
    variance = (0.25 + np.cumsum((losses - mean) ** 2, axis=0)) / (1 + count)
    # A bet may depend on earlier losses alone, or the p-value is not valid.
    first = np.full_like(variance[:1], 0.25)
    before = np.concatenate([first, variance[:-1]])
    bets = np.minimum(np.sqrt(-2.0 * np.log(level) / (n * before)), 1.0)
    gains = np.log1p(-bets * (losses - tolerance))
    wealth = np.maximum(np.cumsum(gains, axis=0).max(axis=0), 0.0)
    return np.exp(-wealth)


# The p-values that can be computed from the mean loss alone.
RISK_P_VALUES = {
    "hoeffding": hoeffding_p_value,
    "hoeffding_bentkus": hoeffding_bentkus_p_value,
    "binary": binary_p_value,
}
P_VALUES = (*RISK_P_VALUES, "betting")


def check_p_value(p_value: PValue, losses: np.ndarray) -> None:
    """Raises `ValueError` unless there is such a p-value for such losses."""
    if callable(p_value):
        return
    check_choice(P_VALUES, p_value=p_value)
    if p_value == "binary":
        neither = (losses != 0.0) & (losses != 1.0)
        if neither.any():
            raise ValueError(
                "`losses` must be 0 or 1 for p_value='binary'. Received: "
                f"{losses[neither][0]}. p_value='hoeffding_bentkus' takes any "
                "in [0, 1]."
            )


def compute_p_values(
    p_value: PValue, losses: np.ndarray, tolerance: float, level: float
) -> np.ndarray:
    """Returns the p-values `[m]` of losses `[n, m]`, both checked.

    Raises:
        ValueError: if a callable returns something else than p-values `[m]`.
    """
    if not callable(p_value):
        if p_value == "betting":
            return np.asarray(betting_p_value(losses, tolerance, level))
        risks = losses.mean(axis=0)
        return np.asarray(RISK_P_VALUES[p_value](risks, len(losses), tolerance))
    p_values = np.asarray(p_value(losses, tolerance), np.float64)
    if p_values.shape != losses.shape[1:]:
        raise ValueError(
            "`p_value` must return one p-value per threshold, "
            f"{losses.shape[1:]}. Received: {p_values.shape}."
        )
    check_in_unit_interval("p_value(losses, tolerance)", p_values)
    return p_values


def _check(risk: ArrayLike, n: int, tolerance: float) -> np.ndarray:
    check_size(n=n)
    check_fraction(tolerance=tolerance)
    risk = np.asarray(risk, np.float64)
    check_in_unit_interval("risk", risk)
    return risk


def _ceil(risk: np.ndarray, n: int) -> np.ndarray:
    """Returns `ceil(n risk)`, which is k for `risk = k / n`."""
    return np.ceil(np.maximum(n * (risk - _ROUNDING), 0.0))
