"""What held-out queries confirm of settings that others chose."""

import hashlib
import json
import math
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_moe.calibration import Certificate
from keras_moe.calibration import NotCertifiedError
from keras_moe.calibration import calibrate
from keras_moe.retrieval._frontier import OperatingPoint

# Steps of the walk along the frontier.
_STEPS = 16
# The walk starts where a fifth of the allowed loss is predicted, and would
# end where a quarter more than that is.
_START, _END = 0.2, 1.25
_THOUSANDTHS = 1000

# Measures the recall of each held-out query with some settings.
Measure = Callable[[OperatingPoint], np.ndarray]


def confirmation_path(
    frontier: Sequence[OperatingPoint], target_recall: float
) -> list[OperatingPoint]:
    """Returns the part of a frontier that is tested, the dearest first.

    Chosen by predictions alone: held-out queries have no part in it.

    Args:
        frontier: as `TunedIndex` has it, the cheapest point first.
        target_recall: between 0 and 1.

    Example:

    >>> frontier = [
    ...     keras_moe.retrieval.OperatingPoint({"lists": n}, 100.0 * n, recall)
    ...     for n, recall in ((1, 0.6), (2, 0.89), (3, 0.95), (4, 0.99))
    ... ]
    >>> path = keras_moe.retrieval.confirmation_path(frontier, 0.9)
    >>> [point.settings["lists"] for point in path]
    [4, 3, 2]
    """
    loss = 1.0 - target_recall
    losses = [1.0 - point.predicted_recall for point in frontier]
    cheap = [i for i, each in enumerate(losses) if each <= _END * loss]
    sure = [i for i, each in enumerate(losses) if each <= _START * loss]
    last = len(frontier) - 1
    start = min(sure, default=last)
    end = min(cheap, default=last)
    steps = np.unique(np.linspace(end, start, _STEPS).round().astype(int))
    return [frontier[i] for i in steps[::-1]]


def certify_target(
    frontier: Sequence[OperatingPoint],
    target_recall: float,
    measure: Measure,
    confidence_level: float,
    p_value: str,
    k: int,
    fingerprint: str,
) -> Certificate:
    """Walks down a frontier while the target is certified.

    A test in a fixed sequence: each point at the whole level, until one fails.
    What lies beyond it needs no measurement.

    Raises:
        NotCertifiedError: if the first point fails.
    """
    losses: list[np.ndarray] = []
    path = confirmation_path(frontier, target_recall)
    for count, point in enumerate(path, 1):
        losses.append(1.0 - measure(point))
        try:
            certificate = calibrate(
                np.stack(losses, axis=1),
                [each.bytes_per_query for each in path[:count]],
                1.0 - target_recall,
                confidence_level,
                p_value,
                policy=policy_of(path[:count], k, frontier),
                fingerprint=fingerprint,
            )
        except NotCertifiedError as error:
            raise NotCertifiedError(
                f"A recall@{k} of at least {target_recall:g} cannot be "
                "certified for this index, whose dearest settings are "
                f"predicted to find {point.predicted_recall:.4g}. {error}",
                error.thresholds,
                error.p_values,
                error.risks,
                error.n,
            ) from error
        if certificate.threshold != point.bytes_per_query:
            break
    return certificate


def certify_budget(
    frontier: Sequence[OperatingPoint],
    budget: float,
    measure: Measure,
    confidence_level: float,
    p_value: str,
    k: int,
    fingerprint: str,
) -> Certificate:
    """Returns the certificate of the greatest recall within a budget.

    The tolerances that a test does not refute are a confidence interval, so
    the least certified tolerance may be looked for.

    Raises:
        NotCertifiedError: if there is none.
        ValueError: if the budget is too small for any point.
    """
    within = [each for each in frontier if each.bytes_per_query <= budget]
    if not within:
        raise ValueError(
            "`budget` must be at least the "
            f"{math.ceil(frontier[0].bytes_per_query)} bytes that the "
            f"cheapest settings read. Received: budget={budget}."
        )
    point = within[-1]
    losses = np.expand_dims(1.0 - measure(point), 1)

    def certify(thousandths: int) -> Certificate:
        return calibrate(
            losses,
            [point.bytes_per_query],
            thousandths / _THOUSANDTHS,
            confidence_level,
            p_value,
            policy=policy_of([point], k, frontier),
            fingerprint=fingerprint,
        )

    refuted, certified = 0, _THOUSANDTHS - 1
    certificate = certify(certified)
    while certified - refuted > 1:
        middle = (refuted + certified) // 2
        try:
            certificate, certified = certify(middle), middle
        except NotCertifiedError:
            refuted = middle
    return certificate


def policy_of(
    path: Sequence[OperatingPoint], k: int, frontier: Sequence[OperatingPoint]
) -> dict:
    """Returns what a certificate of recall holds for.

    Args:
        path: the points that were tested.
        k: number of results.
        frontier: all points. Predictions need queries to be made again: a
            digest of them is what shows that none was altered since.
    """
    points = [point._asdict() for point in frontier]
    return {
        "loss": "1 - recall",
        "k": k,
        "settings": [dict(point.settings) for point in path],
        "frontier": hashlib.sha256(
            json.dumps(points, sort_keys=True).encode()
        ).hexdigest(),
    }
