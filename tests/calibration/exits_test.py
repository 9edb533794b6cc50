import numpy as np
import pytest

import keras_moe
from keras_moe.calibration import Certificate
from keras_moe.calibration import NotCertifiedError
from keras_moe.calibration import calibrate
from keras_moe.calibration import calibrate_exits
from keras_moe.calibration import exit_answers
from keras_moe.calibration import exit_policy
from keras_moe.generation import EarlyExitPolicy
from keras_moe.weights import fingerprint
from tests.generation.talkative_model import talkative_model

MAX_LENGTH = 6
POLICY = EarlyExitPolicy("softmax")
# The last lets every token leave after the first layer.
THRESHOLDS = (1.1, 0.9, 0.5, -1.0)


@pytest.fixture(scope="module")
def model():
    return talkative_model()


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(2, 32, (120, 5))


def any_token(early, full):
    return (early != full).any(axis=1).astype(float)


def share_of_tokens(early, full):
    return (early != full).mean(axis=1)


@pytest.fixture(scope="module")
def answers(model, ids):
    return list(
        exit_answers(model, ids, POLICY, THRESHOLDS, MAX_LENGTH, verbose=0)
    )


def test_answers_are_those_of_generate(model, ids, answers):
    full, *early = answers
    expected = model.generate(ids, MAX_LENGTH)["token_ids"]
    np.testing.assert_array_equal(full.token_ids, expected)
    np.testing.assert_array_equal(early[0].token_ids, expected)
    np.testing.assert_array_equal(full.exit_layer > 0, full.token_ids > 0)
    assert full.mean_exit_layer() == early[0].mean_exit_layer() == 3.0
    assert early[-1].mean_exit_layer() == 1.0
    depths = [answer.mean_exit_layer() for answer in early]
    assert depths == sorted(depths, reverse=True)
    assert 1.0 < depths[2] < 3.0


def test_batches_change_nothing(model, ids, answers):
    again = exit_answers(
        model, ids, POLICY, THRESHOLDS, MAX_LENGTH, batch_size=50, verbose=0
    )
    for one, other in zip(answers, again, strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
        np.testing.assert_array_equal(one.exit_layer, other.exit_layer)


def test_certificate_is_that_of_the_losses(model, ids, answers):
    full, *early = (answer.token_ids for answer in answers)
    losses = np.stack([share_of_tokens(each, full) for each in early], axis=1)
    certificate = calibrate_exits(
        model,
        ids,
        POLICY,
        THRESHOLDS,
        share_of_tokens,
        tolerance=0.4,
        max_length=MAX_LENGTH,
        verbose=0,
    )
    expected = calibrate(
        losses,
        THRESHOLDS,
        0.4,
        policy=exit_policy(POLICY, MAX_LENGTH),
        fingerprint=fingerprint(model),
    )
    assert certificate == expected
    assert certificate.risks[-1] > 0.4  # else nothing is at stake


def test_refuses_where_nothing_passes(model, ids):
    with pytest.raises(NotCertifiedError, match="No threshold is certified"):
        calibrate_exits(
            model,
            ids,
            POLICY,
            [-1.0],
            any_token,
            tolerance=0.05,
            max_length=MAX_LENGTH,
            verbose=0,
        )


def test_bound_to_everything_but_the_threshold():
    bound = exit_policy(POLICY, MAX_LENGTH)
    assert bound == exit_policy(EarlyExitPolicy("softmax", 0.1), MAX_LENGTH)
    for other in (
        exit_policy(EarlyExitPolicy("state"), MAX_LENGTH),
        exit_policy(EarlyExitPolicy("softmax", min_exit_layer=2), MAX_LENGTH),
        exit_policy(EarlyExitPolicy(propagation="eager"), MAX_LENGTH),
        exit_policy(POLICY, MAX_LENGTH + 1),
    ):
        assert bound != other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": np.zeros((0, 3))}, "at least one row"),
        ({"token_ids": np.zeros(3)}, "must have the shape"),
        (
            {"token_ids": {"encoder_token_ids": np.ones((3, 2))}},
            r"the sources' ids alone.*dictionary of \['encoder_token_ids'\]",
        ),
        ({"thresholds": [0.5, 0.9, 0.7]}, "thresholds"),
        ({"correction": "none"}, "`correction` must be one of"),
        ({"max_length": 0}, "`max_length` must be a positive integer"),
        ({"thresholds": [0.5, 0.9]}, "must begin with the safest"),
        ({"tolerance": 5.0}, "`tolerance`"),
        ({"p_value": "guess"}, "`p_value` must be one of"),
        ({"loss": None}, "`loss` must be a function"),
        ({"policy": "softmax"}, "`policy` must be a"),
        ({"policy": EarlyExitPolicy(min_exit_layer=9)}, "`min_exit_layer`"),
    ],
)
def test_errors(model, ids, changes, message, monkeypatch):
    arguments = {
        "token_ids": ids,
        "policy": POLICY,
        "thresholds": THRESHOLDS,
        "loss": any_token,
        "tolerance": 0.1,
        "verbose": 0,
        **changes,
    }

    def generate(*_args, **_kwargs):
        raise AssertionError("Errors come before anything is decoded.")

    monkeypatch.setattr(model, "generate", generate)
    with pytest.raises(ValueError, match=message):
        calibrate_exits(model, **arguments)


@pytest.mark.parametrize("values", [np.zeros(100), 0.0])
def test_a_loss_for_each_example(model, ids, values):
    with pytest.raises(ValueError, match=r"of the shape \(120,\)"):
        calibrate_exits(
            model,
            ids,
            POLICY,
            THRESHOLDS,
            lambda early, full: values,
            tolerance=0.1,
            max_length=MAX_LENGTH,
            verbose=0,
        )


def test_public():
    assert keras_moe.calibration.calibrate_exits is calibrate_exits


def test_a_certificate_of_a_removed_propagation_is_refused(model, tmp_path):
    bound = {**exit_policy(POLICY, MAX_LENGTH), "propagation": "none"}
    certificate = calibrate(np.zeros((200, 1)), [0.5], 0.1, policy=bound)
    certificate.save(tmp_path / "certificate.json")
    loaded = Certificate.load(tmp_path / "certificate.json")
    with pytest.raises(ValueError, match="propagation.*'none'.*'deferred'"):
        loaded.check(policy=exit_policy(POLICY, MAX_LENGTH))
    fields = {k: v for k, v in loaded.policy.items() if k != "max_length"}
    message = "`propagation` must be one of .'deferred', 'eager'.*'none'"
    with pytest.raises(ValueError, match=message):
        EarlyExitPolicy(threshold=loaded.threshold, **fields)
