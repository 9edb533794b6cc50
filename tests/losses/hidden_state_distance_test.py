"""The distance of hidden states, token by token."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import hidden_state_distance
from keras_moe.losses._hidden_state_distance import HIDDEN_STATE_DISTANCES
from tests.reference.distillation import by_token
from tests.reference.distillation import cosine_distance
from tests.reference.distillation import mean_squared

REFERENCES = {"mse": mean_squared, "cosine": cosine_distance}


def draw(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *shape)).astype("float32")


def with_gradient(teacher, student, **kwargs):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = hidden_state_distance(teacher, student, **kwargs)
    return loss.numpy(), tape.gradient(loss, student).numpy()


@pytest.mark.parametrize("distance", HIDDEN_STATE_DISTANCES)
@given(
    shape=st.sampled_from([(1,), (16,), (3, 5), (2, 4, 7)]),
    seed=st.integers(0, 999),
)
def test_equals_the_loop(distance, shape, seed):
    teacher, student = draw(shape, seed)
    received = hidden_state_distance(teacher, student, distance=distance)
    assert received.dtype == "float32"
    assert received.shape == shape[:-1]
    expected = by_token(REFERENCES[distance], teacher, student)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@given(
    scale=st.sampled_from([1e-10, 1e-6, 1.0, 1e6, 1e10]),
    other=st.sampled_from([1e-10, 1e-6, 1.0, 1e6, 1e10]),
    seed=st.integers(0, 999),
)
def test_the_cosine_has_no_scale(scale, other, seed):
    teacher, student = draw((4, 8), seed)
    student = student * np.float32(other)
    loss, gradient = with_gradient(
        teacher * np.float32(scale), student, distance="cosine"
    )
    np.testing.assert_allclose(
        loss, by_token(cosine_distance, teacher, student), atol=3e-6
    )
    # It turns the state, and makes it neither longer nor shorter.
    lengths = np.linalg.norm(gradient, axis=-1) * np.linalg.norm(
        student, axis=-1
    )
    assert (lengths > 0).all()
    np.testing.assert_allclose(
        (gradient * student).sum(-1) / lengths, 0.0, atol=1e-5
    )


@pytest.mark.parametrize("distance", HIDDEN_STATE_DISTANCES)
def test_a_zero_state_is_far_and_learns(distance):
    teacher, _ = draw((3, 4))
    loss, gradient = with_gradient(teacher, 0 * teacher, distance=distance)
    np.testing.assert_allclose(
        loss, by_token(REFERENCES[distance], teacher, 0 * teacher), rtol=1e-5
    )
    assert np.abs(gradient).max() < 2 * np.abs(teacher).max()
    assert ((gradient * teacher).sum(-1) < 0).all()


@pytest.mark.parametrize("distance", HIDDEN_STATE_DISTANCES)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_padding_has_no_say(distance, poison):
    teacher, student = draw((2, 4, 3))
    mask = np.arange(4) < np.array([[3], [0]])
    clean = with_gradient(teacher, student, mask=mask, distance=distance)
    bad = np.where(mask[..., None], 0, poison).astype("float32")
    for pair in ((teacher + bad, student), (teacher, student + bad)):
        dirty = with_gradient(*pair, mask=mask, distance=distance)
        for received, expected in zip(dirty, clean, strict=True):
            np.testing.assert_array_equal(received, expected)
            assert not received[~mask].any()
    unmasked = hidden_state_distance(teacher, student, distance=distance)
    np.testing.assert_array_equal(clean[0][mask], unmasked.numpy()[mask])


@pytest.mark.parametrize("distance", HIDDEN_STATE_DISTANCES)
def test_half_precision_is_computed_in_float32(distance):
    teacher, student = (tf.cast(x, "bfloat16") for x in draw((9, 64)))
    received = hidden_state_distance(teacher, student, distance=distance)
    assert received.dtype == "float32"
    expected = by_token(
        REFERENCES[distance],
        tf.cast(teacher, "float64").numpy(),
        tf.cast(student, "float64").numpy(),
    )
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_sizes_and_names_are_checked():
    with pytest.raises(ValueError, match="4 of the teacher, 3 of the student"):
        hidden_state_distance(np.ones((1, 4)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="`distance` must be one of.*'l1'"):
        hidden_state_distance(np.ones((1, 4)), np.ones((1, 4)), distance="l1")
