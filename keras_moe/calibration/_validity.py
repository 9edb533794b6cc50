"""Whether a calibration keeps its promise, by trying it many times."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from keras_moe.calibration._calibrate import check_columns
from keras_moe.calibration._checks import to_losses
from keras_moe.calibration._checks import to_thresholds
from keras_moe.calibration._corrections import CORRECTIONS
from keras_moe.calibration._corrections import last_accepted
from keras_moe.calibration._p_values import RISK_P_VALUES
from keras_moe.calibration._p_values import PValue
from keras_moe.calibration._p_values import check_p_value
from keras_moe.calibration._p_values import compute_p_values
from keras_moe.validation import check_choice
from keras_moe.validation import check_fraction
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

# Probability with which a valid procedure stays within the allowed rate.
_SURE = 0.999
# Rows of the pool times draws that are counted at once: 64 MB of memory.
_COUNTED_AT_ONCE = 8_000_000


class ViolationRate(NamedTuple):
    """How often a calibration broke its promise.

    Attributes:
        rate: share of the draws whose threshold has a risk, over the whole
            pool, above the tolerance.
        allowed_rate: `1 - confidence_level` and what chance may add to it: a
            procedure that is valid exceeds it once in a thousand times at
            most.
        thresholds: chosen in each draw, float64 `[draws]`; NaN where nothing
            was certified, which violates nothing.

    Example:

    >>> found = keras_moe.calibration.violation_rate(
    ...     np.zeros([100, 1]), [0.9], tolerance=0.05, draws=3
    ... )
    >>> found.rate, found.thresholds
    (0.0, array([0.9, 0.9, 0.9]))
    """

    rate: float
    allowed_rate: float
    thresholds: np.ndarray


def violation_rate(
    losses: ArrayLike,
    thresholds: ArrayLike,
    tolerance: float,
    confidence_level: float = 0.95,
    p_value: PValue = "hoeffding_bentkus",
    correction: str = "fixed_sequence",
    draws: int = 1000,
    sample_size: int | None = None,
    seed: int = 0,
) -> ViolationRate:
    """Calibrates on many draws from a pool and counts broken promises.

    Each draw takes examples of the pool with replacement. The pool stands for
    the distribution, so its mean losses are the true risks. A pool tells
    something only if some of its risks are above the tolerance, best of all
    by little.

    Args:
        losses: in [0, 1], `[N, m]`: the pool.
        thresholds: `[m]`, as for `calibrate`.
        tolerance: as for `calibrate`.
        confidence_level: as for `calibrate`.
        p_value: as for `calibrate`. Those that need only mean losses take
            seconds; `"betting"` and functions see every draw, one by one.
        correction: as for `calibrate`.
        draws: number of calibrations.
        sample_size: examples of each; `None` for as many as the pool has.
        seed: of the draws.

    Returns:
        A `ViolationRate`.

    Raises:
        ValueError: as for `calibrate`, except that nothing certified is no
            error.

    Example:

    >>> pool = np.random.default_rng(0).random([2000, 3]) < [0.02, 0.05, 0.06]
    >>> found = keras_moe.calibration.violation_rate(
    ...     pool, [0.9, 0.8, 0.7], tolerance=0.05, draws=200, sample_size=500
    ... )
    >>> found.rate <= found.allowed_rate
    True
    """
    losses = to_losses(losses)
    check_fraction(tolerance=tolerance, confidence_level=confidence_level)
    check_choice(CORRECTIONS, correction=correction)
    check_p_value(p_value, losses)
    thresholds = to_thresholds(thresholds, correction)
    check_columns(losses, thresholds)
    check_size(draws=draws, sample_size=sample_size)
    check_seed(seed)
    level = 1.0 - confidence_level
    n = len(losses) if sample_size is None else sample_size
    random = np.random.default_rng(seed)
    if isinstance(p_value, str) and p_value in RISK_P_VALUES:
        risks = _drawn_risks(losses, draws, n, random)
        p_values = np.asarray(RISK_P_VALUES[p_value](risks, n, tolerance))
    else:
        p_values = np.stack(
            [
                compute_p_values(p_value, losses[rows], tolerance, level)
                for rows in _drawn_rows(len(losses), draws, n, random)
            ]
        )
    chosen = [last_accepted(p, level, correction) for p in p_values]
    # Without a margin, rounding could count a risk that equals the tolerance
    # as a violation.
    bad = losses.mean(axis=0) > tolerance + 1e-12
    violations = sum(bool(bad[i]) for i in chosen if i is not None)
    return ViolationRate(
        rate=violations / draws,
        allowed_rate=_allowed(draws, level) / draws,
        thresholds=np.array(
            [np.nan if i is None else thresholds[i] for i in chosen]
        ),
    )


def _drawn_rows(size: int, draws: int, n: int, random: np.random.Generator):
    for _ in range(draws):
        yield random.integers(size, size=n)


def _drawn_risks(
    losses: np.ndarray, draws: int, n: int, random: np.random.Generator
) -> np.ndarray:
    """Returns the mean losses `[draws, m]`, by how often each row is drawn."""
    size = len(losses)
    at_once = max(1, _COUNTED_AT_ONCE // size)
    risks = []
    for start in range(0, draws, at_once):
        rows = _drawn_rows(size, min(at_once, draws - start), n, random)
        counts = np.stack([np.bincount(r, minlength=size) for r in rows])
        risks.append(counts.astype(np.float64) @ losses / n)
    # Rounding may take the mean of losses of 1 above 1, which p-values refuse.
    return np.minimum(np.concatenate(risks), 1.0)


def _allowed(draws: int, level: float) -> int:
    """Returns the violations that a valid procedure may show by chance."""
    counts = np.arange(draws + 1)
    return int(np.argmax(special.bdtr(counts, draws, level) >= _SURE))
