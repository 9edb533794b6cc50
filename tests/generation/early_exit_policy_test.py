import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.generation import EarlyExitPolicy
from keras_moe.losses import exit_layers

LENGTH = 50


def thresholds(policy, threshold, positions=range(LENGTH), length=LENGTH):
    """Of one row, at each position."""
    return np.array(
        [
            policy.threshold_at(
                tf.constant([threshold], "float32"), position, length
            )[0]
            for position in positions
        ]
    )


# === Segments ===


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 5))
def test_segments_part_the_layers_at_the_exits(layers, lowest, interval):
    lowest = min(lowest, layers)
    policy = EarlyExitPolicy(min_exit_layer=lowest, exit_interval=interval)
    segments = policy.segments(layers)
    assert all(segments)
    assert sum(segments, ()) == tuple(range(layers))
    # The same exits as in training.
    ends = tuple(segment[-1] + 1 for segment in segments)
    assert ends == exit_layers(layers, lowest, interval)


def test_segments_by_hand():
    policy = EarlyExitPolicy(min_exit_layer=2, exit_interval=3)
    assert policy.segments(8) == ((0, 1), (2, 3, 4), (5, 6, 7))
    assert policy.segments(2) == ((0, 1),)


def test_an_exit_above_the_decoder_is_refused():
    with pytest.raises(ValueError, match="at most 3, .*min_exit_layer=4"):
        EarlyExitPolicy(min_exit_layer=4).segments(3)


# === Thresholds ===


@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.95, 1.0])
def test_decay_of_the_paper(threshold, temperature):
    policy = EarlyExitPolicy(decay="calm", decay_temperature=temperature)
    t = np.arange(LENGTH, dtype="float64")
    expected = np.clip(
        0.9 * threshold + 0.1 * np.exp(-temperature * t / LENGTH), 0.0, 1.0
    )
    received = thresholds(policy, threshold)
    np.testing.assert_allclose(received, expected, atol=1e-6)
    assert (np.diff(received) <= 0).all()


@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.95, 1.0])
def test_decay_of_t5x(threshold, temperature):
    policy = EarlyExitPolicy(decay="t5x", decay_temperature=temperature)
    t = np.arange(LENGTH, dtype="float64")
    expected = threshold * (0.9 + 0.1 * np.exp(-temperature * t / LENGTH))
    received = thresholds(policy, threshold)
    np.testing.assert_allclose(received, expected, atol=1e-6)
    # It starts from the threshold itself.
    assert received[0] == np.float32(threshold)


def test_without_decay_the_threshold_stays():
    received = thresholds(EarlyExitPolicy(), 0.7)
    np.testing.assert_array_equal(received, np.float32(0.7))


@pytest.mark.parametrize("decay", [None, "calm", "t5x"])
@pytest.mark.parametrize("threshold", [1.0001, 1.05, 2.0, np.inf])
def test_a_threshold_above_1_never_decays(decay, threshold):
    policy = EarlyExitPolicy(decay=decay, decay_temperature=9.0)
    received = thresholds(policy, threshold)
    np.testing.assert_array_equal(received, np.float32(threshold))


@pytest.mark.parametrize("decay", [None, "calm", "t5x"])
def test_rows_have_thresholds_of_their_own(decay):
    policy = EarlyExitPolicy(decay=decay)
    rows = np.array([0.1, 0.5, 0.9, 1.5], "float32")
    together = np.asarray(policy.threshold_at(tf.constant(rows), 7, LENGTH))
    assert together.dtype == "float32"
    alone = [thresholds(policy, row, [7])[0] for row in rows]
    np.testing.assert_array_equal(together, alone)


def test_positions_may_be_tensors():
    policy = EarlyExitPolicy(decay="calm")
    graph = tf.function(policy.threshold_at, autograph=False)
    received = graph(tf.constant([0.5]), tf.constant(3), LENGTH)
    np.testing.assert_allclose(
        received, thresholds(policy, 0.5, [3]), rtol=1e-6
    )


# === As a value ===


def test_equal_policies_are_one_key():
    first = EarlyExitPolicy("state", 0.8, decay="calm")
    second = EarlyExitPolicy("state", 0.8, decay="calm")
    assert first == second
    assert {first: 1}[second] == 1
    assert first != dataclasses.replace(first, threshold=0.7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.threshold = 0.5


def test_a_dictionary_leaves_out_the_threshold_alone():
    policy = EarlyExitPolicy(
        "entropy",
        0.6,
        min_exit_layer=2,
        exit_interval=3,
        decay="t5x",
        decay_temperature=2.0,
        propagation="eager",
        shortlist_size=100,
    )
    written = json.loads(json.dumps(policy.to_dict()))
    assert "threshold" not in written
    assert EarlyExitPolicy(threshold=0.6, **written) == policy
    other = dataclasses.replace(policy, threshold=0.1)
    assert other.to_dict() == policy.to_dict()


@pytest.mark.parametrize(
    ("confidence", "needed"),
    [
        ("softmax", True),
        ("entropy", True),
        ("state", False),
        ("classifier", False),
    ],
)
def test_which_confidences_need_logits(confidence, needed):
    assert EarlyExitPolicy(confidence).needs_logits is needed


# === Errors ===


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"confidence": "guess"}, "'classifier'.*confidence='guess'"),
        ({"threshold": float("nan")}, "`threshold`.*nan"),
        ({"threshold": "0.9"}, "`threshold`.*'0.9'"),
        ({"threshold": True}, "`threshold`.*True"),
        ({"min_exit_layer": 0}, "min_exit_layer=0"),
        ({"min_exit_layer": 1.5}, "min_exit_layer=1.5"),
        ({"exit_interval": 0}, "exit_interval=0"),
        ({"decay": "linear"}, "'t5x'.*decay='linear'"),
        ({"decay_temperature": 0.0}, "decay_temperature=0.0"),
        ({"propagation": "lazy"}, "'deferred'.*propagation='lazy'"),
        ({"propagation": "none"}, "'deferred'.*propagation='none'"),
        ({"shortlist_size": 0}, "shortlist_size=0"),
        ({"shortlist_size": 1}, "at least 2.*shortlist_size=1"),
        (
            {"shortlist_size": 9, "confidence": "state"},
            "'softmax' and 'entropy'.*shortlist_size=9.*'state'",
        ),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        EarlyExitPolicy(**fields)
