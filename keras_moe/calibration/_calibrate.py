"""Learn then Test: the boldest threshold whose risk is certified."""

import numpy as np
from numpy.typing import ArrayLike

from keras_moe.calibration._certificate import Certificate
from keras_moe.calibration._checks import to_losses
from keras_moe.calibration._checks import to_thresholds
from keras_moe.calibration._corrections import CORRECTIONS
from keras_moe.calibration._corrections import last_accepted
from keras_moe.calibration._not_certified_error import NotCertifiedError
from keras_moe.calibration._p_values import PValue
from keras_moe.calibration._p_values import check_p_value
from keras_moe.calibration._p_values import compute_p_values
from keras_moe.types import Config
from keras_moe.validation import check_choice
from keras_moe.validation import check_fraction


def calibrate(
    losses: ArrayLike,
    thresholds: ArrayLike,
    tolerance: float,
    confidence_level: float = 0.95,
    p_value: PValue = "hoeffding_bentkus",
    correction: str = "fixed_sequence",
    policy: Config | None = None,
    fingerprint: str | None = None,
) -> Certificate:
    """Chooses the boldest threshold whose risk is certified.

    With a probability of at least `confidence_level` over the draw of the
    examples, the expected loss at the chosen threshold is at most
    `tolerance`. The guarantee holds for any model, any distribution and any
    dependence of the loss on the threshold, if the examples are independent
    draws from the data to come and had no part in making the model, the
    thresholds or their order.

    Each threshold is tested against the hypothesis that its risk is above the
    tolerance; a correction for testing many says which of them pass. The last
    threshold that passes, in the order given, is chosen.

    Sources: Learn then Test, arXiv:2110.01052; for early exits, CALM,
    arXiv:2207.07061.

    Args:
        losses: in [0, 1], `[n, m]`: of each example at each threshold.
        thresholds: `[m]`, distinct, from the safest to the boldest. The order
            given is the order in which `"fixed_sequence"` tests; for it they
            must strictly decrease (where a high threshold is safe) or
            strictly increase.
        tolerance: greatest expected loss, between 0 and 1.
        confidence_level: between 0 and 1.
        p_value: `"hoeffding_bentkus"`; `"binary"`, sharper, for losses that
            are 0 or 1; `"betting"`, for losses that vary little, which takes
            the examples in the order given; `"hoeffding"`, weak. Or a
            function of `losses` and `tolerance` that returns p-values `[m]`;
            its validity is yours (see `violation_rate`).
        correction: `"fixed_sequence"`, which loses nothing to the number of
            thresholds if risks grow along the order; `"holm"` or
            `"bonferroni"` if they may not.
        policy: what else the losses depend on, as plain values fit for JSON,
            without the threshold. The certificate holds for it alone.
        fingerprint: of the model (`keras_moe.weights.fingerprint`). The
            certificate holds for it alone.

    Returns:
        A `Certificate`.

    Raises:
        NotCertifiedError: if no threshold passes.
        ValueError: if an argument is out of its range, or shapes differ.

    Example:

    >>> scores = np.random.default_rng(0).random([1000, 1])
    >>> thresholds = [0.9, 0.8, 0.7]
    >>> losses = (scores > thresholds) * 0.15
    >>> certificate = keras_moe.calibration.calibrate(
    ...     losses, thresholds, tolerance=0.05
    ... )
    >>> certificate.threshold
    0.8
    """
    losses = to_losses(losses)
    check_fraction(tolerance=tolerance, confidence_level=confidence_level)
    check_choice(CORRECTIONS, correction=correction)
    check_p_value(p_value, losses)
    thresholds = to_thresholds(thresholds, correction)
    check_columns(losses, thresholds)
    n = len(losses)
    level = 1.0 - confidence_level
    p_values = compute_p_values(p_value, losses, tolerance, level)
    risks = losses.mean(axis=0)
    chosen = last_accepted(p_values, level, correction)
    if chosen is None:
        # The p-value that the first threshold to pass needs: the whole level
        # in a fixed sequence, else its share of the level.
        first = level if correction == "fixed_sequence" else level / len(risks)
        raise NotCertifiedError(
            _too_few(p_value, n, tolerance, first)
            + f"No threshold is certified for tolerance={tolerance:g} at "
            f"confidence_level={confidence_level:g}. "
            + _explain(thresholds, p_values, risks, n, first, correction),
            thresholds.tolist(),
            p_values.tolist(),
            risks.tolist(),
            n,
        )
    return Certificate(
        threshold=float(thresholds[chosen]),
        tolerance=tolerance,
        confidence_level=confidence_level,
        n=n,
        thresholds=tuple(thresholds.tolist()),
        p_values=tuple(p_values.tolist()),
        risks=tuple(risks.tolist()),
        p_value=_name(p_value),
        correction=correction,
        policy=policy,
        fingerprint=fingerprint,
    )


def check_columns(losses: np.ndarray, thresholds: np.ndarray) -> None:
    """Raises `ValueError` unless there is a column per threshold."""
    if losses.shape[1] != len(thresholds):
        raise ValueError(
            "`losses` must have one column per threshold. Received: "
            f"losses.shape={losses.shape} and {len(thresholds)} thresholds."
        )


def _explain(
    thresholds: np.ndarray,
    p_values: np.ndarray,
    risks: np.ndarray,
    n: int,
    level: float,
    correction: str,
) -> str:
    if correction == "fixed_sequence":
        test = (
            f"The first threshold tested, {thresholds[0]:g}, must have a "
            f"p-value of at most {level:.3g} and has {p_values[0]:.3g} (mean "
            f"loss {risks[0]:.3g})"
        )
    else:
        test = (
            f"The smallest p-value must be at most {level:.3g} for "
            f"correction={correction!r}"
        )
    best = int(np.argmin(p_values))
    return (
        f"{test}; the smallest p-value is {p_values[best]:.3g}, at threshold "
        f"{thresholds[best]:g} (mean loss {risks[best]:.3g}), from n={n} "
        "examples. More examples, a larger tolerance or safer thresholds "
        "would help."
    )


def _too_few(p_value: PValue, n: int, tolerance: float, level: float) -> str:
    """Returns a sentence if no losses whatever could have passed."""
    if callable(p_value):
        return ""
    perfect = np.zeros([n, 1])
    if compute_p_values(p_value, perfect, tolerance, level)[0] <= level:
        return ""
    examples = "1 example is" if n == 1 else f"{n} examples are"
    return (
        f"{examples} too few: not even losses of 0 throughout would have "
        "passed for this tolerance. "
    )


def _name(p_value: PValue) -> str:
    if isinstance(p_value, str):
        return p_value
    return getattr(p_value, "__name__", type(p_value).__name__)
