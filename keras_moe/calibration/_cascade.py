"""Calibration of a cascade's rule."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from keras_moe.calibration._calibrate import calibrate
from keras_moe.calibration._certificate import Certificate
from keras_moe.calibration._checks import to_losses
from keras_moe.calibration._checks import to_thresholds
from keras_moe.calibration._deferral_rule import DeferralRule
from keras_moe.calibration._deferral_share import deferral_share
from keras_moe.calibration._p_values import PValue
from keras_moe.types import Config
from keras_moe.validation import check_fraction
from keras_moe.validation import check_not_negative


def calibrate_cascade(
    rule: DeferralRule,
    scores: ArrayLike,
    small_losses: ArrayLike,
    large_losses: ArrayLike,
    thresholds: ArrayLike,
    tolerance: float | None = None,
    budget: float | None = None,
    confidence_level: float = 0.95,
    p_value: PValue = "hoeffding_bentkus",
    correction: str = "fixed_sequence",
    stage: int = 0,
) -> Certificate:
    """Certifies how much a cascade errs, or how often it defers.

    With `tolerance` the certificate bounds the risk: the expected loss of the
    cascade's answers. The highest threshold that passes is chosen, the
    cheapest. With `budget` it bounds the cost: the share of rows that are
    deferred. The lowest threshold that passes is chosen, the most accurate.

    The guarantee is that of `keras_moe.calibration.calibrate`: for this rule,
    of rows like those given, none of which had a part in the training of
    either stage, in `DeferralRule.fit` or in the choice of thresholds.

    Either says, too, in which range the share of deferred rows lies at the
    threshold, with the same confidence: where rows to come leave it, they are
    not like those given. It is the exact binomial interval, corrected for the
    number of thresholds; with `budget` it ends there.

    Args:
        rule: that defers.
        scores: `[n]`, what `rule.scores` gives for the small stage's outputs.
        small_losses: `[n]`, in [0, 1]: of the small stage's answers.
        large_losses: `[n]`, in [0, 1]: of the answers after deferring, by the
            large stage or by what is left of a longer cascade.
        thresholds: `[m]`, in any order; equal ones, such as quantiles of
            scores with ties, count once. Where the large stage is a specialist
            deferring all is not safest: for risks that do not grow with the
            threshold take `correction="holm"`.
        tolerance: greatest expected loss; or
        budget: greatest expected share of deferred rows.
        confidence_level: between 0 and 1.
        p_value: see `keras_moe.calibration.calibrate`.
        correction: see `keras_moe.calibration.calibrate`.
        stage: number of the stage that defers, from 0. Of a later one, rows
            are those that reach it.

    Returns:
        A `Certificate`, for `rule.with_threshold`. Its policy names the rule
        and the two stages that the rule was fitted on, and holds
        `deferral_share`, the two ends of that range.

    Raises:
        NotCertifiedError: if no threshold passes.
        ValueError: if an argument is out of its range, or shapes differ.

    Example:

    >>> rule = keras_moe.calibration.DeferralRule()
    >>> small = np.stack([np.linspace(0.5, 1, 1000), np.linspace(0.5, 0, 1000)])
    >>> scores = rule.scores(small.T)
    >>> certificate = keras_moe.calibration.calibrate_cascade(
    ...     rule,
    ...     scores,
    ...     small_losses=small[0] < 0.6,
    ...     large_losses=np.zeros(1000),
    ...     thresholds=[0.2, 0.3, 0.4, 0.45],
    ...     budget=0.5,
    ... )
    >>> certificate.threshold
    0.3
    >>> [round(end, 2) for end in certificate.policy["deferral_share"]]
    [0.36, 0.5]
    """
    check_fraction(confidence_level=confidence_level)
    check_not_negative(stage=stage)
    limit = budget if tolerance is None else tolerance
    if limit is None or (tolerance is not None and budget is not None):
        raise ValueError(
            "One of `tolerance` and `budget` must be given. Received: "
            f"tolerance={tolerance}, budget={budget}."
        )
    scores, *losses = (
        np.asarray(each, "float64")
        for each in (scores, small_losses, large_losses)
    )
    shapes = [each.shape for each in (scores, *losses)]
    if scores.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(
            "`scores`, `small_losses` and `large_losses` must have the shape "
            f"[n]. Received: {', '.join(map(str, shapes))}."
        )
    small, large = (to_losses(each[:, None]) for each in losses)
    if np.isnan(scores).any():
        raise ValueError(
            "`scores` must be numbers or infinity, as `rule.scores` gives "
            f"them. Received: NaN in {int(np.isnan(scores).sum())} rows."
        )
    thresholds = np.asarray(thresholds, "float64")
    if thresholds.ndim == 1:
        thresholds = np.unique(thresholds)
    thresholds = to_thresholds(thresholds, correction)
    bounds_risk = budget is None
    # The rule works in float32, in which a threshold may lie elsewhere.
    deferred = scores[:, None].astype("float32") > thresholds.astype("float32")
    policy: Config = {
        "kind": "cascade",
        "bounds": "risk" if bounds_risk else "share of deferred rows",
        "rule": rule.digest,
        "stages": rule.stages and list(rule.stages),
        "stage": stage,
    }
    costs = np.where(deferred, large, small) if bounds_risk else deferred
    # The safest for the cost is the threshold that defers least.
    order = slice(None) if bounds_risk else slice(None, None, -1)
    certificate = calibrate(
        costs[:, order],
        thresholds[order],
        limit,
        confidence_level,
        p_value,
        correction,
        policy,
    )
    (chosen,) = np.flatnonzero(thresholds == certificate.threshold)
    low, high = deferral_share(
        int(deferred[:, chosen].sum()),
        len(scores),
        1.0 - confidence_level,
        len(thresholds),
    )
    share = [low, high if budget is None else budget]
    return dataclasses.replace(
        certificate, policy={**policy, "deferral_share": share}
    )
