"""The range in which a cascade's share of deferred rows lies."""

from scipy import special


def deferral_share(
    deferred: int, n: int, level: float, tests: int
) -> tuple[float, float]:
    """Returns the bounds of a share, of which a count was seen.

    The exact interval of Clopper and Pearson (Biometrika, 1934), each end at
    half of `level`. The threshold was chosen on the rows that are counted:
    the level is divided by the number of thresholds it was chosen from.

    Args:
        deferred: number of rows that are.
        n: number of rows, at least 1.
        level: with which probability the share may lie elsewhere.
        tests: number of thresholds.

    Returns:
        The least and the greatest share, from 0 to 1.
    """
    tail = level / (2.0 * tests)
    low, high = 0.0, 1.0
    if deferred:
        low = float(special.betaincinv(deferred, n - deferred + 1, tail))
    if deferred < n:
        high = float(special.betaincinv(deferred + 1, n - deferred, 1.0 - tail))
    return low, high
