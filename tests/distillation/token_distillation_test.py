"""The teacher's distribution as a target."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.distillation import TokenDistillation
from tests.reference.distillation import by_token
from tests.reference.distillation import kl_divergence
from tests.reference.distillation import log_softmax
from tests.reference.distillation import weighted_mean

SHAPE = (3, 4, 6)


def draw(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *SHAPE)).astype("float32") * 2


def confidence(teacher):
    return np.exp(np.apply_along_axis(log_softmax, -1, teacher)).max(-1)


@given(
    temperature=st.sampled_from([1.0, 2.0]),
    min_confidence=st.sampled_from([0.0, 0.5, 0.99]),
    masked=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 999),
)
def test_is_the_mean_over_the_sure_tokens(
    temperature, min_confidence, masked, weighted, seed
):
    teacher, student = draw(seed)
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE[:2]) < 0.7 if masked else None
    weights = rng.uniform(0, 2, SHAPE[0]) if weighted else np.ones(SHAPE[0])
    loss = TokenDistillation(temperature, min_confidence)
    received = loss.compute_loss(
        teacher,
        student,
        mask=mask,
        sample_weight=weights if weighted else None,
    )
    counted = confidence(teacher) >= min_confidence
    if masked:
        counted &= mask
    expected = weighted_mean(
        by_token(kl_divergence, teacher, student, temperature=temperature),
        counted,
        np.broadcast_to(weights[:, None], SHAPE[:2]),
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


def test_tokens_in_doubt_are_named():
    teacher, _ = draw()
    assert TokenDistillation().is_counted(teacher) is None
    counted = TokenDistillation(min_confidence=0.5).is_counted(teacher)
    expected = confidence(teacher) >= 0.5
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(counted, expected)


def test_confidence_is_taken_at_temperature_one():
    teacher, student = draw()
    loss = TokenDistillation(temperature=100.0, min_confidence=0.5)
    np.testing.assert_array_equal(
        loss.is_counted(teacher), confidence(teacher) >= 0.5
    )
    assert float(loss.compute_loss(teacher, student)) > 0


def test_a_teacher_in_doubt_teaches_nothing():
    _, student = draw()
    loss = TokenDistillation(min_confidence=0.5)
    assert float(loss.compute_loss(0 * student, student)) == 0.0


@pytest.mark.parametrize("min_confidence", [0.0, 0.5])
def test_padding_has_no_say(min_confidence):
    teacher, student = draw()
    mask = np.arange(SHAPE[1]) < np.array([[4], [2], [0]])
    loss = TokenDistillation(min_confidence=min_confidence)
    expected = loss.compute_loss(teacher, student, mask=mask)
    teacher[~mask] = student[~mask] = np.nan
    received = loss.compute_loss(teacher, student, mask=mask)
    np.testing.assert_array_equal(received, expected)


def test_outputs_without_a_length():
    teacher, student = draw()[:, :, 0]
    received = TokenDistillation().compute_loss(teacher, student)
    expected = by_token(kl_divergence, teacher, student).mean()
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_survives_its_config():
    loss = TokenDistillation(temperature=3.0, min_confidence=0.25)
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, TokenDistillation)
    assert again.get_config() == loss.get_config()
    assert (again.temperature, again.min_confidence) == (3.0, 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be positive"),
        ({"min_confidence": 1.0}, r"`min_confidence` must be in \[0, 1\)"),
        ({"min_confidence": -0.1}, r"`min_confidence` must be in \[0, 1\)"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        TokenDistillation(**options)


def test_keras_says_the_same_where_it_does_not_clip():
    teacher, student = np.random.normal(size=(2, 7, 5)).astype("float32")
    # Given a name, it would compare logits as if they were probabilities.
    peer = keras.distillation.LogitsDistillation(
        temperature=2.0, loss=keras.losses.KLDivergence()
    )
    received = TokenDistillation(2.0).compute_loss(teacher, student)
    assert float(received) == pytest.approx(
        float(peer.compute_loss(teacher, student)), rel=1e-5
    )
