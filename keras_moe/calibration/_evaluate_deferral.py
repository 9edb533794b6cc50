"""A deferral rule, judged on rows that it was not fitted on."""

from typing import Any

from keras import ops

from keras_moe.calibration._deferral_features import check_probabilities
from keras_moe.calibration._deferral_losses import Loss
from keras_moe.calibration._deferral_losses import deferral_losses
from keras_moe.calibration._deferral_report import DeferralReport
from keras_moe.calibration._deferral_report import compare
from keras_moe.calibration._deferral_rule import DeferralRule


def evaluate_deferral(
    rule: DeferralRule,
    small_outputs: Any,
    large_outputs: Any,
    labels: Any,
    loss: Loss | None = None,
    seed: int = 0,
) -> DeferralReport:
    """Compares a rule with plain confidence.

    Args:
        rule: fitted on other rows; its threshold has no part in this.
        small_outputs: of the stage that may defer.
        large_outputs: of the stage it defers to.
        labels: see `keras_moe.calibration.DeferralRule.fit`.
        loss: see there.
        seed: of the bootstrap.

    Returns:
        A report of these rows.

    Raises:
        ValueError: if shapes differ, or labels are out of their range.

    Example:

    >>> labels = np.array([0, 1, 1, 0])
    >>> small = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    >>> large = np.array([[0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.9, 0.1]])
    >>> report = keras_moe.calibration.evaluate_deferral(
    ...     keras_moe.calibration.DeferralRule(), small, large, labels
    ... )
    >>> report.small_loss, report.large_loss, report.breakage, report.gain
    (0.25, 0.0, 0.0, 0.0)
    """
    if rule.kind == "probabilities":
        check_probabilities("small_outputs", small_outputs)
        check_probabilities("large_outputs", large_outputs)
    losses = deferral_losses(
        small_outputs, large_outputs, labels, rule.kind, loss
    )
    confidence = DeferralRule(
        rule.kind, pad_id=rule.pad_id, confidence=rule.confidence
    )
    scores, uncertainty = (
        ops.convert_to_numpy(each.scores(small_outputs))
        for each in (rule, confidence)
    )
    return compare(scores, uncertainty, losses.small, losses.large, seed)
