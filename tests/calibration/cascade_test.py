"""A cascade's certificate bounds its risk, or its cost."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import Certificate
from keras_moe.calibration import DeferralRule
from keras_moe.calibration import NotCertifiedError
from keras_moe.calibration import calibrate_cascade
from keras_moe.calibration import check_disjoint
from keras_moe.calibration import violation_rate
from keras_moe.calibration._deferral_share import deferral_share

_THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    scores = rng.random(2000)
    small = (rng.random(2000) < scores).astype(float)
    return scores, small, np.zeros(2000)


def test_risk_takes_the_cheapest_and_cost_the_most_accurate(rows):
    rule = DeferralRule()
    risk = calibrate_cascade(rule, *rows, _THRESHOLDS, tolerance=0.08)
    # Of rows below 0.3, 4.5 % of all are wrong; below 0.4, 8 %.
    assert risk.threshold == 0.3
    assert risk.policy["bounds"] == "risk"
    cost = calibrate_cascade(rule, *rows, _THRESHOLDS, budget=0.65)
    assert cost.threshold == 0.4
    assert cost.risks[cost.thresholds.index(0.4)] == np.mean(
        rows[0].astype("float32") > np.float32(0.4)
    )
    assert rule.with_threshold(cost).threshold == 0.4
    with pytest.raises(ValueError, match="not one for this rule"):
        DeferralRule("logits").with_threshold(cost)


@pytest.mark.parametrize("limit", [{"tolerance": 0.08}, {"budget": 0.65}])
def test_equal_thresholds_count_once(rows, limit):
    rule = DeferralRule()
    tied = [0.4, 0.1, 0.4, 0.3, 0.5, 0.2, 0.1]
    assert calibrate_cascade(rule, *rows, tied, **limit) == calibrate_cascade(
        rule, *rows, _THRESHOLDS, **limit
    )


def test_nothing_is_granted_where_nothing_can_be_shown(rows):
    with pytest.raises(NotCertifiedError):
        calibrate_cascade(DeferralRule(), *rows, _THRESHOLDS, tolerance=0.001)
    with pytest.raises(NotCertifiedError):
        calibrate_cascade(DeferralRule(), *rows, _THRESHOLDS, budget=0.3)


def test_certificates_are_violated_as_rarely_as_they_say():
    rng = np.random.default_rng(1)
    scores = rng.random(4000)
    small = (rng.random(4000) < scores).astype(float)
    losses = np.where(scores[:, None] > _THRESHOLDS, 0.0, small[:, None])
    found = violation_rate(
        losses, _THRESHOLDS, tolerance=0.05, draws=500, sample_size=400
    )
    # The nominal 0.05, and two standard errors of 500 draws.
    assert found.rate <= 0.07


@pytest.mark.parametrize("limit", [{"tolerance": 0.9}, {"budget": 0.9}])
def test_the_share_of_deferred_rows_has_a_range(rows, limit):
    certificate = calibrate_cascade(
        DeferralRule(), *rows, _THRESHOLDS, **limit, stage=1
    )
    low, high = certificate.policy["deferral_share"]
    share = np.mean(rows[0] > certificate.threshold)
    assert low < share < high
    if "budget" in limit:
        # What is certified, however far below it the rows were.
        assert high == 0.9
    else:
        assert high < share + 0.05
    assert low > share - 0.05
    assert certificate.policy["stage"] == 1
    # It travels with the file.
    assert Certificate.from_json(certificate.to_json()) == certificate


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_a_range_misses_the_share_as_rarely_as_it_says(share):
    rng = np.random.default_rng(2)
    missed = []
    for count in rng.binomial(300, share, 400):
        low, high = deferral_share(int(count), 300, level=0.1, tests=1)
        missed.append(not low <= share <= high)
    # The nominal 0.1, and two standard errors of 400 draws.
    assert np.mean(missed) <= 0.13


def test_no_row_is_in_two_splits():
    check_disjoint({"train": ["a"], "fit": ["b", "b"], "calibration": ["c"]})
    with pytest.raises(ValueError, match=r"\['fit'\]` must have no row of "):
        check_disjoint({"train": ["a", "b"], "fit": iter(["b", "c"])})
    with pytest.raises(ValueError, match=r"\['fit'\]` must have rows"):
        check_disjoint({"train": ["a"], "fit": []})


def test_rows_of_features_are_compared_by_what_they_hold():
    x = np.random.default_rng(0).normal(size=(30, 2, 3)).astype("float32")
    x[3] = 0.0
    x[4, 1, 1] = np.nan
    check_disjoint({"train": x[:10], "fit": x[10:20], "test": list(x[20:])})
    for row in (3, 4):
        same = np.copy(x[row : row + 1]).astype("float64") * -1.0 * -1.0
        same = np.where(same == 0.0, -0.0, same)
        for other in (same, list(same), tf.constant(same)):
            with pytest.raises(ValueError, match="1 of 1 rows that are in"):
                check_disjoint({"train": x, "fit": other})
    # The width of a column of texts is that of its longest.
    words = np.array([["a", "b"], ["long", "c"]])
    with pytest.raises(ValueError, match="1 of 1 rows"):
        check_disjoint({"train": words, "fit": np.array([["a", "b"]])})
    check_disjoint({"train": np.array([1, 2]), "fit": np.array([3])})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"age": [1, 2]}, r"\['fit'\]` must be rows.*dict"),
        ("text", r"\['fit'\]` must be rows.*str"),
        ([{"age": 1}], r"\['fit'\]` must have rows that are.*type dict"),
        ([[1, [2]]], r"\['fit'\]` must have rows that are"),
        (7, r"\['fit'\]` must have rows that are"),
    ],
)
def test_refuses_what_is_no_list_of_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        check_disjoint({"train": ["a"], "fit": rows})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance": None}, "One of `tolerance` and `budget`"),
        ({"budget": 0.5}, "One of `tolerance` and `budget`"),
        ({"tolerance": 2.0}, "`tolerance`"),
        ({"confidence_level": 1.0}, "`confidence_level`"),
        ({"stage": -1}, "`stage` must not be negative"),
        ({"thresholds": [[0.1, 0.2]]}, "`thresholds` must"),
        ({"thresholds": 0.1}, "`thresholds` must"),
        ({"thresholds": []}, "`thresholds` must"),
        ({"scores": [np.nan, 0.0]}, "NaN in 1 rows"),
        ({"small_losses": [[0.0, 1.0]]}, r"must have the shape \[n\]"),
        ({"scores": [0.0]}, r"must have the shape \[n\]"),
        ({"small_losses": [2.0, 0.0]}, "`losses`"),
    ],
)
def test_refuses_bad_input(change, message):
    given = {
        "scores": [0.1, 0.9],
        "small_losses": [0.0, 1.0],
        "large_losses": [0.0, 0.0],
        "thresholds": _THRESHOLDS,
        "tolerance": 0.5,
    }
    with pytest.raises(ValueError, match=message):
        calibrate_cascade(DeferralRule(), **{**given, **change})
