"""The choice between an estimate of the gain and plain confidence."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_moe.calibration._deferral_losses import DeferralLosses
from keras_moe.calibration._deferral_network import FOLDS
from keras_moe.calibration._deferral_network import Network
from keras_moe.calibration._deferral_network import fit_network
from keras_moe.calibration._deferral_report import DeferralReport
from keras_moe.calibration._deferral_report import compare

Seen = tuple[np.ndarray, np.ndarray]


class Estimate(NamedTuple):
    """Fields of a rule, by their names."""

    target: str
    network: Network | None
    report: DeferralReport
    confidence: str


def fit_estimate(
    seen: Mapping[str, Seen], losses: DeferralLosses, target: str, seed: int
) -> Estimate:
    """Fits a network, and keeps it if it does better than confidence.

    Args:
        seen: the name of a confidence to features `[n, f]` and uncertainty
            `[n]`. The one that defers best alone is what the network must
            beat.
        losses: of both stages.
        target: what the network learns; `"confidence"` for no network.
        seed: of all that is random.

    Raises:
        ValueError: if hardly a row is finite, or the stages never differ.
    """
    finite = np.ones(len(losses.small), bool)
    for features, uncertainty in seen.values():
        finite &= np.isfinite(features).all(axis=1) & np.isfinite(uncertainty)
    if target == "probability_gain":
        finite &= np.isfinite(losses.probability_gain)
    small, large = losses.small[finite], losses.large[finite]
    if len(small) < 2 * FOLDS:
        raise ValueError(
            f"`small_outputs` must have {2 * FOLDS} finite rows at least. "
            f"Received: {len(small)}."
        )
    if (small == large).all():
        raise ValueError(
            "The stages must differ: of losses that are the same on every row "
            f"nothing can be learned. Received: {len(small)} rows."
        )
    if not finite.all():
        warnings.warn(
            f"{int((~finite).sum())} of {len(finite)} rows of outputs are not "
            "finite and are left out: every rule defers rows of which the "
            "small stage's are not.",
            stacklevel=4,
        )
    reports = {
        name: compare(None, uncertainty[finite], small, large, seed)
        for name, (_, uncertainty) in seen.items()
    }
    best = max(reports, key=lambda name: reports[name].confidence_area)
    if target == "confidence":
        return Estimate("confidence", None, reports[best], best)
    gains = small - large
    if target == "probability_gain":
        gains = losses.probability_gain[finite]
    features, uncertainty = (array[finite] for array in seen[best])
    network, unseen = fit_network(features, gains, seed)
    report = compare(unseen, uncertainty, small, large, seed)
    if not report.helps:
        return Estimate("confidence", None, report, best)
    return Estimate(target, network, report, best)
