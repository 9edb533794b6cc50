"""Whether the figures of a certificate agree with one another."""

from collections.abc import Sequence

import numpy as np

from keras_moe.calibration._corrections import last_accepted
from keras_moe.calibration._p_values import RISK_P_VALUES

# Another version of SciPy may round otherwise.
_RELATIVE = 1e-6


def check_threshold(
    threshold: float,
    thresholds: Sequence[float],
    p_values: Sequence[float],
    level: float,
    correction: str,
) -> None:
    """Raises `ValueError` unless the p-values certify this very threshold."""
    chosen = last_accepted(p_values, level, correction)
    if chosen is None or thresholds[chosen] != threshold:
        granted = None if chosen is None else thresholds[chosen]
        raise ValueError(
            "`threshold` must be the last that these p-values certify, "
            f"{granted}. Received: threshold={threshold}."
        )


def check_p_values(
    p_value: str,
    p_values: Sequence[float],
    risks: Sequence[float],
    n: int,
    tolerance: float,
) -> None:
    """Raises `ValueError` for p-values that no losses of these risks have.

    Args:
        p_value: name; nothing is known of the p-values of a callable.
        p_values: one per threshold.
        risks: mean loss per threshold.
        n: number of examples.
        tolerance: greatest expected loss.
    """
    if p_value in RISK_P_VALUES:
        expected = RISK_P_VALUES[p_value](risks, n, tolerance)
        if not np.allclose(p_values, expected, _RELATIVE, 1e-300):
            raise ValueError(
                "`p_values` must be those of the risks, "
                f"{np.asarray(expected).tolist()}. Received: {list(p_values)}."
            )
    elif p_value == "betting":
        least = _least_log_betting(np.asarray(risks), n, tolerance)
        with np.errstate(divide="ignore"):
            logs = np.log(p_values)
        if (logs < least * (1.0 + _RELATIVE) - _RELATIVE).any():
            raise ValueError(
                "`p_values` must be at least what bets on losses of these "
                f"risks can come to, {np.exp(least).tolist()}. Received: "
                f"{list(p_values)}."
            )


def _least_log_betting(
    risks: np.ndarray, n: int, tolerance: float
) -> np.ndarray:
    """Returns the log of the least p-value by bets, whatever the order.

    Bets are at most 1, so that an example multiplies the wealth by at most
    `1 + tolerance`, and only those with a loss below the tolerance do; of these
    there are at most `n (1 - risk) / (1 - tolerance)`.
    """
    winning = np.minimum(n, n * (1.0 - risks) / (1.0 - tolerance))
    return -winning * np.log1p(tolerance)
