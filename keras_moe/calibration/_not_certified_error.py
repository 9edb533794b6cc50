"""The error of a calibration that certifies no threshold."""

from collections.abc import Sequence


class NotCertifiedError(ValueError):
    """No threshold could be shown to keep the risk within its tolerance.

    Attributes:
        thresholds: as they were tested, a tuple of m floats.
        p_values: one per threshold.
        risks: mean loss per threshold.
        n: number of examples.

    Example:

    >>> try:
    ...     keras_moe.calibration.calibrate(np.ones([50, 1]), [0.9], 0.1)
    ... except keras_moe.calibration.NotCertifiedError as error:
    ...     error.thresholds, error.risks, error.n
    ((0.9,), (1.0,), 50)
    """

    def __init__(
        self,
        message: str,
        thresholds: Sequence[float] = (),
        p_values: Sequence[float] = (),
        risks: Sequence[float] = (),
        n: int = 0,
    ):
        super().__init__(message)
        self.thresholds = tuple(thresholds)
        self.p_values = tuple(p_values)
        self.risks = tuple(risks)
        self.n = n
