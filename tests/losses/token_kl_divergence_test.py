"""The divergence of teacher and student, token by token."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import token_kl_divergence
from tests.reference.distillation import by_token
from tests.reference.distillation import kl_divergence

LOGITS = {
    "shape": st.sampled_from([(2,), (3, 5), (2, 4, 7)]),
    "scale": st.sampled_from([0.0, 1e-3, 1.0, 10.0]),
    "temperature": st.sampled_from([0.5, 1.0, 4.0]),
    "seed": st.integers(0, 999),
}


def draw(shape, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(2, *shape))).astype("float32")


def softmax(logits):
    return scipy.special.softmax(np.float64(logits), axis=-1)


def with_gradients(teacher, student, **kwargs):
    """Returns values and their gradients with respect to both."""
    teacher, student = tf.constant(teacher), tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch((teacher, student))
        loss = token_kl_divergence(teacher, student, **kwargs)
    gradients = tape.gradient(loss, (teacher, student))
    return loss.numpy(), *(g.numpy() for g in gradients)


@given(**LOGITS)
def test_equals_the_loop(shape, scale, temperature, seed):
    teacher, student = draw(shape, scale, seed)
    received = token_kl_divergence(teacher, student, temperature=temperature)
    assert received.dtype == "float32"
    assert received.shape == shape[:-1]
    expected = by_token(
        kl_divergence, teacher, student, temperature=temperature
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=2e-6)


@given(**LOGITS)
def test_equals_scipy(shape, scale, temperature, seed):
    teacher, student = draw(shape, scale, seed)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    np.testing.assert_allclose(
        token_kl_divergence(teacher, student, temperature=temperature),
        temperature**2 * scipy.special.rel_entr(p, q).sum(-1),
        rtol=1e-4,
        atol=2e-6,
    )


@given(**LOGITS)
def test_its_gradient_keeps_its_size(shape, scale, temperature, seed):
    teacher, student = draw(shape, scale, seed)
    _, _, received = with_gradients(teacher, student, temperature=temperature)
    expected = temperature * (
        softmax(student / temperature) - softmax(teacher / temperature)
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=2e-6)


@given(**LOGITS)
def test_a_constant_in_all_logits_says_nothing(shape, scale, temperature, seed):
    teacher, student = draw(shape, scale, seed)
    zero = token_kl_divergence(
        student + 8, student - 4, temperature=temperature
    )
    np.testing.assert_allclose(zero, 0.0, atol=2e-5)
    loss = token_kl_divergence(teacher, student, temperature=temperature)
    assert np.min(loss) >= -1e-6


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_forbidden_tokens_cost_nothing(temperature):
    teacher, student = draw((6, 5))
    teacher[:, 1:3] = -np.inf
    teacher[0, 1:] = -np.inf  # one token is left
    loss, _, gradient = with_gradients(
        teacher, student, temperature=temperature
    )
    expected = by_token(
        kl_divergence, teacher, student, temperature=temperature
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        gradient,
        temperature
        * (softmax(student / temperature) - softmax(teacher / temperature)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_both_may_forbid_a_token():
    teacher, student = draw((6, 5))
    teacher[:, 2] = student[:, 2] = -np.inf
    loss, _, gradient = with_gradients(teacher, student)
    seen = [0, 1, 3, 4]
    fewer, _, expected = with_gradients(teacher[:, seen], student[:, seen])
    np.testing.assert_allclose(loss, fewer, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient[:, seen], expected, atol=1e-6)
    assert not gradient[:, 2].any()


@given(
    poison=st.sampled_from([np.nan, np.inf, -np.inf, 1e38]),
    who=st.sampled_from(["teacher", "student", "both"]),
    seed=st.integers(0, 999),
)
def test_padding_has_no_say(poison, who, seed):
    teacher, student = draw((3, 4, 5), seed=seed)
    mask = np.random.default_rng(seed).random((3, 4)) < 0.5
    clean = with_gradients(teacher, student, mask=mask, temperature=2.0)
    bad = np.where(mask[..., None], 0, poison).astype("float32")
    dirty = with_gradients(
        teacher + (bad if who != "student" else 0),
        student + (bad if who != "teacher" else 0),
        mask=mask,
        temperature=2.0,
    )
    for received, expected in zip(dirty, clean, strict=True):
        np.testing.assert_array_equal(received, expected)
        assert not received[~mask].any()
    unmasked = token_kl_divergence(teacher, student, temperature=2.0)
    np.testing.assert_array_equal(clean[0][mask], unmasked.numpy()[mask])


def test_half_precision_is_computed_in_float32():
    teacher, student = (tf.cast(x, "bfloat16") for x in draw((9, 40), 4.0))
    received = token_kl_divergence(teacher, student, temperature=2.0)
    assert received.dtype == "float32"
    expected = by_token(
        kl_divergence,
        tf.cast(teacher, "float64").numpy(),
        tf.cast(student, "float64").numpy(),
        temperature=2.0,
    )
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_large_logits_are_no_trouble():
    teacher, student = draw((20, 6), scale=1e4)
    loss, *gradients = with_gradients(teacher, student)
    np.testing.assert_allclose(
        loss, by_token(kl_divergence, teacher, student), rtol=1e-5
    )
    assert np.isfinite(gradients).all()


def test_compiled_by_xla():
    teacher, student = draw((3, 4, 5))
    teacher[:, :, 0] = -np.inf
    mask = np.arange(4) < np.array([[4], [2], [0]])
    compiled = tf.function(token_kl_divergence, jit_compile=True)
    np.testing.assert_allclose(
        compiled(teacher, student, mask, 2.0),
        token_kl_divergence(teacher, student, mask, 2.0),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_the_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        token_kl_divergence(*draw((2, 3)), temperature=temperature)


def test_vocabularies_are_the_same():
    with pytest.raises(ValueError, match="3 logits of the teacher, 4 of the"):
        token_kl_divergence(np.zeros((1, 3)), np.zeros((1, 4)))
