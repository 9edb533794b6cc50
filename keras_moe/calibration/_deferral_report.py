"""Whether a rule of deferral is worth more than confidence."""

import dataclasses

import numpy as np

_REDRAWS = 1000
_INTERVAL = (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class DeferralReport:
    """What a deferral rule gains over confidence, and what it rests upon.

    Areas are means over all shares of deferred rows, from none to all: of
    1 - loss, which for right and wrong answers is the accuracy. Each row is
    scored by a network that was trained without it.

    Attributes:
        n: number of rows.
        small_loss: mean loss of the stage that may defer.
        large_loss: mean loss of the stage it defers to.
        breakage: how often, where the small stage makes no error, the large
            one does. Near 0 the large stage is a generalist, and deferring
            what the small is unsure of is all there is to do. `None` where
            the small stage always errs.
        confidence_area: with rows deferred by the small stage's confidence.
        rule_area: with rows deferred by the rule that was fitted; the same
            where none was.
        interval: 95 % bootstrap interval of `rule_area - confidence_area`.

    Example:

    >>> report = keras_moe.calibration.DeferralReport(
    ...     1000, 0.5, 0.4, 0.3, 0.56, 0.59, (0.02, 0.04)
    ... )
    >>> report.helps, round(report.gain, 2)
    (True, 0.03)
    """

    n: int
    small_loss: float
    large_loss: float
    breakage: float | None
    confidence_area: float
    rule_area: float
    interval: tuple[float, float]

    def __post_init__(self):
        # JSON reads a pair as a list.
        object.__setattr__(self, "interval", tuple(self.interval))

    @property
    def gain(self) -> float:
        """How much larger the rule's area is."""
        return self.rule_area - self.confidence_area

    @property
    def helps(self) -> bool:
        """Whether the interval excludes that confidence does as well."""
        return self.interval[0] > 0.0

    def __str__(self) -> str:
        low, high = self.interval
        if self.helps:
            case = (
                "The large stage is a specialist: the rule knows where it is "
                "not to be asked."
            )
        else:
            case = (
                "No gain over confidence is shown: rows are deferred by "
                "confidence."
            )
        broken = "-" if self.breakage is None else f"{self.breakage:.1%}"
        return (
            f"{self.n} rows; loss {self.small_loss:.4f} of the small stage, "
            f"{self.large_loss:.4f} of the large, which is wrong in "
            f"{broken} of what the small has right. Area "
            f"{self.confidence_area:.4f} by confidence, {self.rule_area:.4f} "
            f"by the rule: {self.gain:+.4f} [{low:+.4f}, {high:+.4f}]. {case}"
        )


def compare(
    estimates: np.ndarray | None,
    uncertainty: np.ndarray,
    small_losses: np.ndarray,
    large_losses: np.ndarray,
    seed: int,
) -> DeferralReport:
    """Returns the report of scores; the greater, the sooner a row is deferred.

    Args:
        estimates: `[n]`, by the rule; `None` where there is none.
        uncertainty: `[n]`, by confidence.
        small_losses: `[n]`, in [0, 1].
        large_losses: `[n]`, in [0, 1].
        seed: of the bootstrap.
    """
    n = len(uncertainty)
    gains = small_losses - large_losses
    right = small_losses == 0.0
    broken = (large_losses > 0.0)[right]
    base = 1.0 - float(small_losses.mean())
    ones = np.ones(n)
    by_confidence = _Order(uncertainty, gains)
    confidence_area = base + by_confidence.area(ones)
    rule_area, interval = confidence_area, (0.0, 0.0)
    if estimates is not None:
        by_rule = _Order(estimates, gains)
        rule_area = base + by_rule.area(ones)
        rng = np.random.default_rng(seed)
        differences = []
        for _ in range(_REDRAWS):
            counts = np.bincount(rng.integers(0, n, n), minlength=n)
            differences.append(
                by_rule.area(counts) - by_confidence.area(counts)
            )
        low, high = np.percentile(differences, _INTERVAL)
        interval = (float(low), float(high))
    return DeferralReport(
        n=n,
        small_loss=float(small_losses.mean()),
        large_loss=float(large_losses.mean()),
        breakage=float(broken.mean()) if len(broken) else None,
        confidence_area=confidence_area,
        rule_area=rule_area,
        interval=interval,
    )


class _Order:
    """Rows in the order in which they are deferred.

    Args:
        scores: `[n]`.
        gains: `[n]`.
    """

    def __init__(self, scores: np.ndarray, gains: np.ndarray):
        _, group = np.unique(-scores, return_inverse=True)
        self._group, self._groups = group.reshape(-1), int(group.max()) + 1
        self._gains = gains

    def area(self, counts: np.ndarray) -> float:
        """Returns the mean gain over all shares, rows counted so often.

        Rows of one score are deferred in no order: each share of them has
        that share of their gain.
        """
        size = np.bincount(self._group, counts, self._groups)
        gain = np.bincount(self._group, counts * self._gains, self._groups)
        before = np.cumsum(gain) - gain
        total = size.sum()
        return float((size * (before + gain / 2.0)).sum() / total**2)
