"""p-values are what they say, and valid."""

import fractions
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_moe import calibration

OF_RISK = (
    calibration.hoeffding_p_value,
    calibration.hoeffding_bentkus_p_value,
    calibration.binary_p_value,
)
TOLERANCES = (0.01, 0.05, 0.1, 0.3, 0.7, 0.99)


def binomial_tail(k, n, tolerance):
    """P(at most k ones), in exact arithmetic."""
    chance = fractions.Fraction(tolerance)
    return sum(
        math.comb(n, i) * chance**i * (1 - chance) ** (n - i)
        for i in range(k + 1)
    )


def slow_hoeffding_bentkus(k, n, tolerance):
    r = min(k / n, tolerance)
    kl = (1 - r) * math.log((1 - r) / (1 - tolerance))
    if k:
        kl += r * math.log(r / tolerance)
    bentkus = math.e * float(binomial_tail(k, n, tolerance))
    return min(math.exp(-n * kl), bentkus, 1.0)


def slow_betting(losses, tolerance, level):
    n, wealth, greatest = len(losses), 1.0, 1.0
    variance, mean_sum, square_sum = 0.25, 0.5, 0.25
    for i, loss in enumerate(losses):
        bet = min(1.0, math.sqrt(2 * math.log(1 / level) / (n * variance)))
        wealth *= 1 - bet * (loss - tolerance)
        greatest = max(greatest, wealth)
        mean_sum += loss
        square_sum += (loss - mean_sum / (i + 2)) ** 2
        variance = square_sum / (i + 2)
    return 1 / greatest


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize(
    "n", [1, 2, 7, 49, pytest.param(80, marks=pytest.mark.large)]
)
def test_they_are_their_formulas(n, tolerance):
    for k in range(n + 1):
        # As a mean comes out, rounded: n times it may lie above k.
        risk = k / n
        assert calibration.binary_p_value(risk, n, tolerance) == pytest.approx(
            float(binomial_tail(k, n, tolerance)), rel=1e-9
        )
        assert calibration.hoeffding_bentkus_p_value(
            risk, n, tolerance
        ) == pytest.approx(slow_hoeffding_bentkus(k, n, tolerance), rel=1e-9)
        assert calibration.hoeffding_p_value(
            risk, n, tolerance
        ) == pytest.approx(
            math.exp(-2 * n * max(tolerance - risk, 0) ** 2), rel=1e-9
        )


def test_a_mean_between_two_counts_is_rounded_up():
    p = calibration.hoeffding_bentkus_p_value
    # Where Bentkus's bound is the smaller one.
    n, tolerance = 100, 0.05
    assert p(0.025, n, tolerance) == pytest.approx(
        min(
            math.e * float(binomial_tail(3, n, tolerance)),
            math.exp(
                -n
                * (
                    0.025 * math.log(0.025 / tolerance)
                    + 0.975 * math.log(0.975 / (1 - tolerance))
                )
            ),
        )
    )


def test_the_mean_of_k_ones_counts_as_k():
    """For each k and n, however the division rounds."""
    for n in range(1, 400):
        k = np.arange(n + 1)
        above = np.ceil(n * (k / n)) > k
        p = calibration.hoeffding_bentkus_p_value(k / n, n, 0.5)
        bentkus = np.e * stats.binom.cdf(k, n, 0.5)
        assert (p <= bentkus * (1 + 1e-9)).all(), (n, k[above])


def test_no_loss_at_all():
    """0 log 0 is 0, so all of them but the plain one are (1 - delta)^n."""
    for p_value in OF_RISK[1:]:
        assert p_value(0.0, 50, 0.1) == pytest.approx(0.9**50)
    assert calibration.hoeffding_bentkus_p_value(1.0, 50, 0.1) == 1.0


@pytest.mark.parametrize("p_value", OF_RISK)
@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("n", [1, 5, 30, 200])
def test_valid_for_coins_exactly(p_value, n, tolerance):
    """P(p <= u) <= u for all u that p can be, all outcomes counted."""
    p = p_value(np.arange(n + 1) / n, n, tolerance)
    for risk in np.linspace(tolerance, 1.0, 5):
        chances = stats.binom.pmf(np.arange(n + 1), n, risk)
        for u in p:
            assert chances[p <= u].sum() <= u * (1 + 1e-9)


@pytest.mark.parametrize("p_value", OF_RISK[:2])
@pytest.mark.parametrize(
    "values, chances",
    [
        ([0, 0.5, 1], [0.9, 0.1, 0.0]),
        ([0, 0.5, 1], [0.92, 0.06, 0.02]),
        ([0, 0.2, 0.8], [0.5, 0.4, 0.1]),
        ([0, 0.1, 0.2], [0.3, 0.4, 0.3]),
    ],
)
@pytest.mark.parametrize("n", [1, 3, 20, 60])
def test_valid_for_more_than_coins_exactly(p_value, values, chances, n):
    tolerance = float(np.dot(values, chances))
    # In tenths, so that sums are integers; their chances by convolution.
    one = np.zeros(11)
    for value, chance in zip(values, chances, strict=True):
        one[round(10 * value)] += chance
    total = np.ones(1)
    for _ in range(n):
        total = np.convolve(total, one)
    p = p_value(np.arange(len(total)) / (10 * n), n, tolerance)
    for u in p[total > 0]:
        assert total[p <= u].sum() <= u * (1 + 1e-9)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("tolerance", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("values", [(0.0, 1.0), (0.2, 0.9)])
def test_betting_is_valid_exactly(values, tolerance, level):
    """Over all sequences of two losses, not only at the level of the bets."""
    n, (low, high) = 11, values
    risk = max(tolerance, low)
    chance = (risk - low) / (high - low)
    sequences = np.array(list(itertools.product([0, 1], repeat=n)))
    losses = np.where(sequences == 1, high, low).T
    ones = sequences.sum(axis=1)
    chances = chance**ones * (1 - chance) ** (n - ones)
    p = calibration.betting_p_value(losses, tolerance, level)
    for u in np.unique(p):
        assert chances[p <= u].sum() <= u * (1 + 1e-9)


@pytest.mark.parametrize("shape", [(0.5, 4.5), (2.0, 18.0), (20.0, 180.0)])
def test_valid_for_continuous_losses(shape):
    """At the tolerance, in 4,000 draws; 1e-4 is left to chance."""
    draws, n, tolerance = 4000, 80, 0.1
    losses = np.random.default_rng(0).beta(*shape, size=[n, draws])
    p_values = [
        calibration.betting_p_value(losses, tolerance),
        calibration.hoeffding_p_value(losses.mean(axis=0), n, tolerance),
        calibration.hoeffding_bentkus_p_value(
            losses.mean(axis=0), n, tolerance
        ),
    ]
    for p in p_values:
        for u in (0.01, 0.05, 0.1, 0.3):
            allowed = stats.binom.ppf(1 - 1e-4, draws, u)
            assert (p <= u).sum() <= allowed


@pytest.mark.parametrize("p_value", OF_RISK)
@given(n=st.integers(1, 3000), tolerance=st.floats(0.001, 0.999))
def test_they_grow_with_the_risk(p_value, n, tolerance):
    p = p_value(np.arange(n + 1) / n, n, tolerance)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= -1e-12).all()


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
    st.integers(1, 500),
    st.floats(0.01, 0.99),
)
def test_means_between_counts_grow_too(risks, n, tolerance):
    p = calibration.hoeffding_bentkus_p_value(np.sort(risks), n, tolerance)
    assert (np.diff(p) >= -1e-12).all()


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
    st.floats(0.001, 0.9),
)
def test_betting_is_a_loop(losses, tolerance, level):
    p = calibration.betting_p_value(losses, tolerance, level)
    assert p == pytest.approx(slow_betting(losses, tolerance, level), rel=1e-6)


def test_betting_takes_columns_one_by_one():
    losses = np.random.default_rng(0).random([50, 4]) ** 3
    p = calibration.betting_p_value(losses, 0.4)
    for column in range(4):
        assert p[column] == calibration.betting_p_value(losses[:, column], 0.4)


def test_betting_knows_that_losses_vary_little():
    losses = np.random.default_rng(0).normal(0.08, 0.01, [300, 1])
    others = [
        p(losses.mean(axis=0), 300, 0.1)[0]
        for p in (
            calibration.hoeffding_p_value,
            calibration.hoeffding_bentkus_p_value,
        )
    ]
    assert min(others) > 0.2
    assert calibration.betting_p_value(losses, 0.1)[0] < 0.01


@given(st.integers(1, 500), st.floats(0.01, 0.99))
def test_which_is_the_sharpest(n, tolerance):
    risk = np.arange(n + 1) / n
    plain, hb, binary = (p(risk, n, tolerance) for p in OF_RISK)
    assert (hb <= plain * (1 + 1e-9)).all()
    # Chernoff's bound lies above the tail that it bounds.
    assert (binary <= hb * (1 + 1e-9) + 1e-15).all()


@pytest.mark.parametrize("p_value", OF_RISK)
def test_shapes(p_value):
    assert p_value(0.5, 10, 0.6).shape == ()
    assert p_value(np.full([3, 4], 0.5), 10, 0.6).shape == (3, 4)
    assert p_value([0.5], 10, 0.6).dtype == np.float64


@pytest.mark.parametrize("p_value", OF_RISK)
def test_invalid_input(p_value):
    with pytest.raises(ValueError, match="`risk` must be in .*nan at .1,"):
        p_value([0.5, np.nan], 10, 0.1)
    with pytest.raises(ValueError, match=r"`risk` must be in .*1\.5"):
        p_value(1.5, 10, 0.1)
    with pytest.raises(ValueError, match="`n` must be a positive integer"):
        p_value(0.5, 0, 0.1)
    for tolerance in (0.0, 1.0, -1, np.nan):
        with pytest.raises(ValueError, match="`tolerance` must be between"):
            p_value(0.5, 10, tolerance)


def test_binary_refuses_other_means():
    with pytest.raises(ValueError, match=r"0\.25, not a multiple of 1 / 10"):
        calibration.binary_p_value([0.2, 0.25], 10, 0.5)


def test_betting_refuses_bad_losses():
    for losses in ([], [[[0.1]]], 0.1):
        with pytest.raises(ValueError, match=r"losses\.shape="):
            calibration.betting_p_value(losses, 0.1)
    with pytest.raises(ValueError, match=r"-0\.1 at \(1, 0\)"):
        calibration.betting_p_value([[0.1], [-0.1]], 0.1)
    with pytest.raises(ValueError, match="`level` must be between"):
        calibration.betting_p_value([0.1], 0.1, level=0)
