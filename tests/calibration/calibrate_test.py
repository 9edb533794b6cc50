import pickle

import numpy as np
import pytest

from keras_moe import calibration

THRESHOLDS = (0.9, 0.8, 0.7, 0.6)


def coins(n=1000, risks=(0.0, 0.01, 0.03, 0.2), seed=0):
    return np.random.default_rng(seed).random([n, len(risks)]) < risks


def given_p_values(*p_values):
    """A p-value that knows what to say."""
    return lambda losses, tolerance: p_values


@pytest.mark.parametrize(
    "correction, p_values, chosen",
    [
        ("fixed_sequence", (0.01, 0.05, 0.06, 0.01), 0.8),
        ("fixed_sequence", (0.01, 0.02, 0.03, 0.04), 0.6),
        # 0.05 / 4 for each, in any order; the last one is the boldest.
        ("bonferroni", (0.9, 0.012, 0.013, 0.9), 0.8),
        ("bonferroni", (0.012, 0.9, 0.9, 0.012), 0.6),
        # Then 0.05 / 3 for the second.
        ("holm", (0.9, 0.012, 0.016, 0.9), 0.7),
        ("holm", (0.9, 0.012, 0.017, 0.9), 0.8),
    ],
)
def test_the_last_accepted_is_chosen(correction, p_values, chosen):
    certificate = calibration.calibrate(
        coins(),
        THRESHOLDS,
        0.05,
        p_value=given_p_values(*p_values),
        correction=correction,
    )
    assert certificate.threshold == chosen
    assert certificate.p_values == p_values


@pytest.mark.parametrize(
    "p_value", ["hoeffding", "hoeffding_bentkus", "binary", "betting"]
)
def test_what_is_certified(p_value):
    losses = coins()
    certificate = calibration.calibrate(
        losses,
        THRESHOLDS,
        0.05,
        0.9,
        p_value,
        policy={"confidence": "softmax"},
        fingerprint="abc",
    )
    expected = {
        "hoeffding": 0.8,
        "hoeffding_bentkus": 0.7,
        "binary": 0.7,
        "betting": 0.7,
    }
    assert certificate.threshold == expected[p_value]
    assert certificate.tolerance == 0.05
    assert certificate.confidence_level == 0.9
    assert certificate.n == 1000
    assert certificate.thresholds == THRESHOLDS
    assert certificate.risks == tuple(losses.mean(axis=0))
    assert certificate.p_value == p_value
    assert certificate.correction == "fixed_sequence"
    assert certificate.policy == {"confidence": "softmax"}
    assert certificate.fingerprint == "abc"
    if p_value == "betting":
        p = calibration.betting_p_value(losses, 0.05, level=1 - 0.9)
    else:
        function = getattr(calibration, f"{p_value}_p_value")
        p = function(losses.mean(axis=0), 1000, 0.05)
    assert certificate.p_values == tuple(p)


def test_thresholds_may_grow():
    """Where a low threshold is the safe one, as for deferral to a model."""
    certificate = calibration.calibrate(coins(), [0.1, 0.2, 0.3, 0.4], 0.05)
    assert certificate.threshold == 0.3


def test_thresholds_may_lie_in_any_order_for_holm():
    certificate = calibration.calibrate(
        coins(), [0.3, 0.1, 0.4, 0.2], 0.05, correction="holm"
    )
    assert certificate.threshold == 0.4


def test_a_bolder_one_behind_a_failure_is_not_reached():
    risks = (0.0, 0.2, 0.0, 0.0)
    losses = coins(risks=risks)
    assert calibration.calibrate(losses, THRESHOLDS, 0.05).threshold == 0.9
    holm = calibration.calibrate(losses, THRESHOLDS, 0.05, correction="holm")
    assert holm.threshold == 0.6


def test_a_function_gives_its_name():
    def mine(losses, tolerance):
        assert losses.dtype == np.float64
        assert tolerance == 0.05
        return [0.01] * 4

    certificate = calibration.calibrate(coins(), THRESHOLDS, 0.05, p_value=mine)
    assert certificate.p_value == "mine"
    assert certificate.threshold == 0.6


def test_refusal_says_what_would_help():
    losses = coins(200, risks=(0.3, 0.02, 0.3, 0.3))
    with pytest.raises(calibration.NotCertifiedError) as raised:
        calibration.calibrate(losses, THRESHOLDS, 0.05)
    error = raised.value
    assert isinstance(error, ValueError)
    assert error.risks == tuple(losses.mean(axis=0))
    assert error.thresholds == THRESHOLDS
    assert error.n == 200
    expected = calibration.hoeffding_bentkus_p_value(error.risks, 200, 0.05)
    assert error.p_values == tuple(expected)
    message = str(error)
    for part in (
        "tolerance=0.05",
        "confidence_level=0.95",
        "first threshold tested, 0.9, must have a p-value of at most 0.05 and "
        "has 1 ",
        f"smallest p-value is {min(expected):.3g}, at threshold 0.8 (mean loss "
        f"{error.risks[1]:.3g}), from n=200 examples",
        "More examples, a larger tolerance or safer thresholds would help.",
    ):
        assert part in message
    assert "too few" not in message
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == message
    assert again.p_values == error.p_values


def test_refusal_knows_the_level_of_the_correction():
    with pytest.raises(
        calibration.NotCertifiedError, match=r"at most 0\.0125 .*'holm'"
    ):
        calibration.calibrate(
            coins(),
            THRESHOLDS,
            0.05,
            p_value=given_p_values(0.02, 0.02, 0.02, 0.02),
            correction="holm",
        )


@pytest.mark.parametrize("p_value", ["hoeffding_bentkus", "binary"])
def test_too_few_examples(p_value):
    """0.95^58 is above 0.05, 0.95^59 is not."""
    message = "^58 examples are too few: .* No threshold is certified for"
    with pytest.raises(calibration.NotCertifiedError, match=message):
        calibration.calibrate(np.zeros([58, 1]), [0.5], 0.05, p_value=p_value)
    calibration.calibrate(np.zeros([59, 1]), [0.5], 0.05, p_value=p_value)


def test_no_losses_are_refused_for_a_correction_that_many_could_not_pass():
    losses = np.zeros([80, 100])
    with pytest.raises(calibration.NotCertifiedError, match="too few"):
        calibration.calibrate(
            losses, np.arange(100), 0.05, correction="bonferroni"
        )


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({"losses": np.zeros([0, 4])}, r"losses\.shape=\(0, 4\)"),
        ({"losses": np.zeros([4])}, r"losses\.shape=\(4,\)"),
        ({"losses": np.zeros([5, 0])}, r"losses\.shape=\(5, 0\)"),
        ({"losses": np.zeros([5, 3])}, r"\(5, 3\) and 4 thresholds"),
        ({"losses": np.full([5, 4], np.nan)}, r"nan at \(0, 0\)"),
        ({"losses": np.full([5, 4], 1.01)}, r"1\.01 at \(0, 0\)"),
        ({"losses": np.full([5, 4], -0.1)}, r"`losses` must be in \[0, 1\]"),
        ({"thresholds": []}, r"thresholds\.shape=\(0,\)"),
        ({"thresholds": [[0.9, 0.8, 0.7, 0.6]]}, r"thresholds\.shape=\(1, 4\)"),
        ({"thresholds": [0.9, 0.8, 0.7, np.nan]}, "must be finite"),
        ({"thresholds": [0.9, 0.7, 0.8, 0.6]}, "strictly decrease or"),
        ({"thresholds": [0.9, 0.8, 0.8, 0.6]}, "strictly decrease or"),
        (
            {"thresholds": [0.9, 0.8, 0.9, 0.6], "correction": "holm"},
            "must be distinct",
        ),
        ({"tolerance": 0.0}, r"`tolerance` must be between 0 and 1.*=0\.0"),
        ({"tolerance": 1}, "`tolerance` must be between"),
        ({"tolerance": np.nan}, "`tolerance` must be between"),
        ({"confidence_level": 1.0}, "`confidence_level` must be between"),
        ({"confidence_level": 0}, "`confidence_level` must be between"),
        ({"p_value": "bentkus"}, "`p_value` must be one of .*'bentkus'"),
        ({"correction": "none"}, "`correction` must be one of .*'none'"),
        (
            {"losses": np.full([5, 4], 0.5), "p_value": "binary"},
            r"must be 0 or 1 for p_value='binary'.*0\.5",
        ),
        ({"p_value": given_p_values(0.1)}, r"\(4,\).*\(1,\)"),
        ({"p_value": given_p_values(0.1, 2, 0, 0)}, r"2\.0 at \(1,\)"),
        ({"policy": {"threshold": 0.5}}, "must not hold the threshold"),
        ({"policy": {"decay": np.nan}}, r"`policy\.decay` must be a plain"),
        ({"fingerprint": ""}, "`fingerprint` must be a string"),
    ],
)
def test_invalid_input(wrong, match):
    arguments = {
        "losses": np.zeros([500, 4]),
        "thresholds": THRESHOLDS,
        "tolerance": 0.05,
        **wrong,
    }
    with pytest.raises(ValueError, match=match) as raised:
        calibration.calibrate(**arguments)
    assert not isinstance(raised.value, calibration.NotCertifiedError)
