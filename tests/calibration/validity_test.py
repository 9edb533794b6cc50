"""Promises are kept over many draws, and broken ones are caught."""

import time

import numpy as np
import pytest
from scipy import stats

from keras_moe import calibration

TOLERANCE = 0.05
THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5)
# The last two are above the tolerance, the first of them by little.
RISKS = (0.02, 0.035, 0.045, 0.052, 0.08)


def pool(kind, size=4000, risks=RISKS):
    """Losses whose means cross the tolerance."""
    random = np.random.default_rng(0)
    uniform = random.random([size, 1])
    if kind == "coins":
        return (uniform < risks).astype(np.float64)
    # Not 0 or 1, and with columns that belong together.
    return np.clip(uniform ** (1 / np.array(risks) - 1), 0, 1)


def halved(losses, tolerance):
    """Wrong on purpose: it sees half of the risk."""
    return calibration.hoeffding_bentkus_p_value(
        losses.mean(axis=0) / 2, len(losses), tolerance
    )


@pytest.mark.parametrize("correction", ["fixed_sequence", "bonferroni", "holm"])
@pytest.mark.parametrize(
    "kind, p_value",
    [
        ("coins", "hoeffding"),
        ("coins", "hoeffding_bentkus"),
        ("coins", "binary"),
        ("coins", "betting"),
        ("powers", "hoeffding_bentkus"),
        ("powers", "betting"),
    ],
)
def test_promises_are_kept(kind, p_value, correction):
    losses = pool(kind)
    risks = losses.mean(axis=0)
    assert (risks[:3] < TOLERANCE).all() and (risks[3:] > TOLERANCE).all()
    found = calibration.violation_rate(
        losses,
        THRESHOLDS,
        TOLERANCE,
        p_value=p_value,
        correction=correction,
        draws=500 if p_value == "betting" else 1000,
        sample_size=1000,
    )
    assert found.rate <= found.allowed_rate
    assert found.allowed_rate < 0.09
    if p_value != "hoeffding":
        assert np.isfinite(found.thresholds).mean() > 0.5  # not for nothing


@pytest.mark.parametrize("kind", ["coins", "powers"])
def test_the_promise_is_not_kept_by_far_too_much(kind):
    """Where the risk hardly exceeds the tolerance errors do happen."""
    losses = pool(kind, risks=(0.02, 0.0505))
    found = calibration.violation_rate(
        losses,
        (0.9, 0.8),
        losses.mean(axis=0)[1] - 1e-6,
        p_value="binary" if kind == "coins" else "betting",
        sample_size=1000,
        draws=1000 if kind == "coins" else 500,
    )
    assert 0.005 < found.rate <= found.allowed_rate


@pytest.mark.parametrize("correction", ["fixed_sequence", "holm"])
def test_a_broken_p_value_is_caught(correction):
    found = calibration.violation_rate(
        pool("coins"),
        THRESHOLDS,
        TOLERANCE,
        p_value=halved,
        correction=correction,
        draws=300,
        sample_size=1000,
    )
    assert found.rate > 2 * found.allowed_rate


def test_a_broken_correction_is_caught(monkeypatch):
    """Each at the whole level, and the best of them taken."""
    from keras_moe.calibration import _corrections as corrections

    monkeypatch.setitem(
        corrections.CORRECTIONS, "holm", lambda p, level: np.array(p) <= level
    )
    losses = np.random.default_rng(0).random([20000, 30]) < 0.05
    found = calibration.violation_rate(
        losses,
        np.arange(30),
        losses.mean(axis=0).min() - 1e-6,
        p_value="binary",
        correction="holm",
        draws=300,
        sample_size=1000,
    )
    assert found.rate > found.allowed_rate


def test_it_calibrates():
    """Each draw is one of `calibrate`, judged by the means of the pool."""
    losses, draws = pool("powers"), 60
    found = calibration.violation_rate(
        losses, THRESHOLDS, TOLERANCE, 0.8, draws=draws, sample_size=300, seed=3
    )
    random = np.random.default_rng(3)
    chosen, violations = [], 0
    for _ in range(draws):
        rows = random.integers(len(losses), size=300)
        try:
            threshold = calibration.calibrate(
                losses[rows], THRESHOLDS, TOLERANCE, 0.8
            ).threshold
        except calibration.NotCertifiedError:
            threshold = np.nan
        else:
            column = THRESHOLDS.index(threshold)
            violations += losses[:, column].mean() > TOLERANCE
        chosen.append(threshold)
    np.testing.assert_array_equal(found.thresholds, chosen)
    assert found.rate == violations / draws
    assert len(set(found.thresholds[np.isfinite(found.thresholds)])) > 1


def test_functions_see_the_same_draws():
    arguments = (pool("powers"), THRESHOLDS, TOLERANCE)
    by_name = calibration.violation_rate(*arguments, draws=50)
    by_function = calibration.violation_rate(
        *arguments,
        p_value=lambda losses, tolerance: calibration.hoeffding_bentkus_p_value(
            losses.mean(axis=0), len(losses), tolerance
        ),
        draws=50,
    )
    np.testing.assert_array_equal(by_name.thresholds, by_function.thresholds)


def test_seeds():
    arguments = (pool("coins"), THRESHOLDS, TOLERANCE)
    runs = [
        calibration.violation_rate(
            *arguments, draws=50, sample_size=200, seed=seed
        ).thresholds
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2], equal_nan=True)


def test_nothing_certified_breaks_nothing():
    found = calibration.violation_rate(
        np.ones([100, 2]), (0.9, 0.8), TOLERANCE, draws=20
    )
    assert found.rate == 0.0
    assert np.isnan(found.thresholds).all()
    assert found.thresholds.shape == (20,)


def test_a_risk_at_the_tolerance_is_none_above_it():
    losses = np.full([100, 1], 0.1)
    found = calibration.violation_rate(
        losses, [0.5], 0.1, p_value=lambda *_: [0.0], draws=5
    )
    assert found.rate == 0.0
    found = calibration.violation_rate(
        losses, [0.5], 0.0999, p_value=lambda *_: [0.0], draws=5
    )
    assert found.rate == 1.0


@pytest.mark.parametrize("draws, level", [(1000, 0.05), (20, 0.3), (1, 0.5)])
def test_what_is_left_to_chance(draws, level):
    found = calibration.violation_rate(
        np.ones([10, 1]), [0.5], TOLERANCE, 1 - level, draws=draws
    )
    expected = stats.binom.ppf(0.999, draws, level) / draws
    assert found.allowed_rate == pytest.approx(expected)


def test_a_thousand_draws_take_a_moment():
    losses = pool("coins", risks=np.linspace(0.01, 0.1, 20))
    began = time.perf_counter()
    calibration.violation_rate(
        losses, np.linspace(1, 0, 20), TOLERANCE, sample_size=2000
    )
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({"losses": np.full([3, 2], 2.0)}, r"`losses` must be in \[0, 1\]"),
        ({"thresholds": [0.5]}, r"\(3, 2\) and 1 thresholds"),
        ({"thresholds": [0.5, 0.5]}, "strictly decrease"),
        ({"tolerance": 1.0}, "`tolerance` must be between"),
        ({"confidence_level": 0.0}, "`confidence_level` must be between"),
        ({"p_value": "mine"}, "`p_value` must be one of"),
        ({"p_value": "binary"}, "must be 0 or 1"),
        ({"p_value": lambda *_: [0.1]}, r"\(2,\).*\(1,\)"),
        ({"correction": "mine"}, "`correction` must be one of"),
        ({"draws": 0}, "`draws` must be a positive integer"),
        ({"sample_size": 0}, "`sample_size` must be a positive integer"),
        ({"seed": -1}, "`seed` must be an integer"),
    ],
)
def test_invalid_input(wrong, match):
    arguments = {
        "losses": np.full([3, 2], 0.5),
        "thresholds": [0.9, 0.8],
        "tolerance": 0.05,
        **wrong,
    }
    with pytest.raises(ValueError, match=match):
        calibration.violation_rate(**arguments)
