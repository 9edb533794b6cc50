"""A deferral rule beats confidence where it can, and says so where not."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import DeferralRule
from keras_moe.calibration._deferral_features import token_features
from keras_moe.calibration._deferral_losses import deferral_losses
from keras_moe.calibration._deferral_report import compare

_N, _CLASSES = 3000, 6


def _probabilities(skill, labels, rng):
    logits = rng.normal(size=(len(labels), _CLASSES))
    logits[np.arange(len(labels)), labels] += skill
    return tf.nn.softmax(2.0 * logits).numpy()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, _CLASSES, _N)
    small = _probabilities(1.5, labels, rng)
    # Knows the first half of the classes, and next to nothing of the rest.
    specialist = _probabilities(np.where(labels < 3, 3.5, 0.3), labels, rng)
    return labels, small, specialist, _probabilities(3.0, labels, rng)


@pytest.fixture(scope="module")
def for_specialist(data):
    labels, small, specialist, _ = data
    return DeferralRule.fit(small, specialist, labels)


def test_a_specialist_is_not_asked_where_it_knows_nothing(for_specialist):
    report = for_specialist.report
    assert for_specialist.target == "gain" and report.helps
    assert report.gain > 0.01 and report.interval[0] > 0.0
    assert report.breakage > 0.3
    assert "specialist" in str(report)


def test_confidence_is_kept_for_a_generalist(data):
    labels, small, _, generalist = data
    rule = DeferralRule.fit(small, generalist, labels, "probability_gain")
    assert rule.report.breakage < 0.15
    if not rule.report.helps:
        assert rule.target == "confidence" and rule.network is None
        assert "No gain over confidence" in str(rule.report)
    # Whatever was chosen defers hardly worse than confidence.
    chosen = _area(rule.scores(small), labels, small, generalist)
    confidence = _area(1 - small.max(axis=1), labels, small, generalist)
    assert chosen > confidence - 0.002


def _area(scores, labels, small, large):
    """Mean accuracy over the numbers of deferred rows, one by one."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    right = [p.argmax(axis=1) == labels for p in (small, large)]
    accuracy = [
        np.mean(np.r_[right[1][order[:n]], right[0][order[n:]]])
        for n in range(0, len(order) + 1, 50)
    ]
    return np.mean(accuracy)


def test_areas_equal_a_sum_over_every_share(data):
    labels, small, large, _ = data
    losses = [p.argmax(axis=1) != labels for p in (small, large)]
    report = compare(
        None, 1 - small.max(axis=1), *(x.astype(float) for x in losses), seed=0
    )
    expected = _area(1 - small.max(axis=1), labels, small, large)
    assert report.confidence_area == pytest.approx(expected, abs=1e-3)


def test_rows_of_one_score_are_deferred_in_no_order():
    small, large = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for order in ([0, 1], [1, 0]):
        report = compare(None, np.zeros(2), small[order], large[order], 0)
        assert report.confidence_area == 0.5


def test_the_same_seed_gives_the_same_rule(data, for_specialist):
    labels, small, specialist, _ = data
    again = DeferralRule.fit(small, specialist, labels)
    assert again.digest == for_specialist.digest
    assert again.report == for_specialist.report


def test_a_file_gives_back_the_rule(for_specialist, data, tmp_path):
    path = tmp_path / "rule.json"
    rule = for_specialist.with_threshold(0.1)
    rule.save(path)
    loaded = DeferralRule.load(path)
    assert loaded.digest == rule.digest and loaded.report == rule.report
    np.testing.assert_array_equal(loaded.scores(data[1]), rule.scores(data[1]))
    fields = json.loads(path.read_text())
    for change in (
        {"threshold": "high"},
        {"format_version": 2},
        {"network": None},
        {"network": {**fields["network"], "bias": [0.0]}},
        {"kind": "words"},
        {"stages": "ab"},
        {"pad_id": "x"},
        {"threshold": 10**400},
        {"network": {**fields["network"], "scale": [0.0] * (_CLASSES + 3)}},
        {"more": 1},
    ):
        path.write_text(json.dumps({**fields, **change}))
        with pytest.raises(ValueError, match="is not a rule"):
            DeferralRule.load(path)


def test_compiles_and_defers_what_is_not_finite(for_specialist, data):
    rule = for_specialist.with_threshold(0.1)
    outputs = data[1][:8].copy()
    before = rule.defers(outputs).numpy()
    outputs[3, 2] = np.nan
    outputs[5] = np.inf
    compiled = tf.function(rule.scores, jit_compile=True)
    for scores in (rule.scores(outputs), compiled(tf.constant(outputs))):
        assert np.isinf(np.asarray(scores)[[3, 5]]).all()
    np.testing.assert_allclose(
        compiled(tf.constant(outputs)), rule.scores(outputs), atol=1e-5
    )
    after = rule.defers(outputs).numpy()
    assert after[[3, 5]].all()
    others = [0, 1, 2, 4, 6, 7]
    np.testing.assert_array_equal(after[others], before[others])


def test_rows_that_are_not_finite_have_no_part_in_the_fit(data):
    labels, small, large, _ = (each[:500].copy() for each in data)
    small[7] = np.nan
    with pytest.warns(UserWarning, match="1 of 500 rows"):
        rule = DeferralRule.fit(small, large, labels)
    assert rule.report.n == 499


def test_broken_rows_of_the_large_stage_have_no_part_either(data):
    labels, small, large, _ = (each[:500].copy() for each in data)
    large[7] = np.nan
    with pytest.warns(UserWarning, match="1 of 500 rows"):
        rule = DeferralRule.fit(small, large, labels, "probability_gain")
    assert rule.report.n == 499


def test_small_integers_do_not_wrap():
    labels = np.arange(60) % 3
    small, large = np.eye(3)[(labels + labels // 2) % 3], np.eye(3)[labels]
    found = [
        deferral_losses(
            small.astype(dtype), large.astype(dtype), labels, "logits", None
        )
        for dtype in ("float32", "uint8")
    ]
    for each in zip(*found, strict=True):
        np.testing.assert_array_equal(*each)
    assert found[0].probability_gain.min() >= -1.0


def test_logits_and_probabilities_are_scored_alike(data):
    small = data[1][:20]
    np.testing.assert_allclose(
        DeferralRule("logits").scores(np.log(small)),
        DeferralRule("probabilities").scores(small),
        atol=1e-6,
    )


def test_a_ranking_may_have_few_candidates_and_padding():
    scores = np.array([[2.0, 1.0, -np.inf], [0.0, 0.0, 0.0]])
    found = DeferralRule("ranking").scores(scores)
    expected = [1 - 1 / (1 + np.exp(-1.0)), 2 / 3]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_features_of_tokens_equal_numpys():
    rng = np.random.default_rng(0)
    log_p = -rng.random([5, 6]).astype("float32")
    ids = np.full([5, 6], 7)
    for row, length in enumerate((6, 4, 1, 0, 3)):
        ids[row, length:] = 0
        log_p[row, length:] = 0.0
    answers = {"token_ids": ids, "token_log_probability": log_p}
    features, confidence = token_features(answers, 0, "mean")
    for row, length in enumerate((6, 4, 1, 0, 3)):
        real = np.sort(log_p[row, :length])
        expected = np.zeros(8)
        if length:
            places = np.floor(
                np.array([0, 0.1, 0.25, 0.5, 0.75]) * (length - 1)
            )
            expected[:3] = length, real.sum(), real.mean()
            expected[3:] = real[places.astype(int)]
        np.testing.assert_allclose(features[row], expected, atol=1e-6)
        np.testing.assert_allclose(confidence[row], expected[2], atol=1e-6)
    log_p[1, 3] = np.nan
    rule = DeferralRule("tokens", threshold=100.0)
    assert rule.defers(answers).numpy().tolist() == [0, 1, 0, 0, 0]


def test_a_rule_for_sequences_learns_from_a_loss():
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 9, [400, 4])
    unsure = rng.random(400)
    log_p = -np.repeat(unsure[:, None], 4, axis=1)
    small = {"token_ids": ids, "token_log_probability": log_p}
    rule = DeferralRule.fit(
        small,
        {"token_ids": ids},
        unsure,
        "confidence",
        "tokens",
        loss=lambda answers, labels: (
            labels > 0.5 if answers is small else np.zeros(400)
        ),
    )
    assert rule.report.breakage == 0.0
    # Where the small stage errs it is less sure: nothing could do better.
    errors = (unsure > 0.5).mean()
    assert rule.report.confidence_area == pytest.approx(
        1 - errors**2 / 2, abs=1e-3
    )


def _off(data, **change):
    labels, small, large, _ = (each[:200] for each in data)
    given = {"small_outputs": small, "large_outputs": large, "labels": labels}
    return {**given, **change}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"labels": d[0][:199]}, "`labels` must be integers of"),
        (lambda d: {"labels": d[0][:200] * 1.0}, "`labels` must be integers"),
        (lambda d: {"labels": d[0][:200] + 1}, "`labels` must be from 0 to 5"),
        (lambda d: {"labels": np.ones(200, int)}, "two values at least"),
        (lambda d: {"large_outputs": d[1][:200, :5]}, "of the same classes"),
        (lambda d: {"large_outputs": d[1][:200]}, "The stages must differ"),
        (lambda d: {"small_outputs": d[1][:200] * 2}, "must be probabilities"),
        (lambda d: {"target": "risk"}, "`target`"),
        (lambda d: {"kind": "words"}, "`kind`"),
        (lambda d: {"kind": "tokens"}, "`loss` must be given"),
        (lambda d: {"loss": lambda o, y: y}, "from 0 to 1"),
        (lambda d: {"loss": lambda o, y: 0.5}, "one number for each row"),
        (lambda d: {"small_outputs": d[1][:200] * np.nan}, "finite rows"),
    ],
)
def test_refuses_bad_input(data, change, message):
    with pytest.raises(ValueError, match=message):
        DeferralRule.fit(**_off(data, **change(data)))


def test_a_message_shows_no_thousand_numbers(for_specialist):
    assert for_specialist.target == "gain"
    assert "target='gain'" in repr(for_specialist)
    assert len(repr(for_specialist)) < 200


def test_refuses_a_threshold_that_is_no_number(for_specialist):
    with pytest.raises(ValueError, match="`threshold` must be a finite"):
        for_specialist.with_threshold(np.nan)
    with pytest.raises(ValueError, match="`threshold` must be set"):
        for_specialist.defers(np.eye(_CLASSES))
    with pytest.raises(ValueError, match="`threshold` must be a finite"):
        DeferralRule(threshold=1e39)  # infinity in float32
    for shape in ((2, 2, 3), (4, 1)):
        with pytest.raises(ValueError, match="must have the shape"):
            DeferralRule().scores(np.zeros(shape))
    with pytest.raises(ValueError, match="`network` must be given"):
        dataclasses.replace(for_specialist, target="confidence")
