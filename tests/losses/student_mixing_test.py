"""The mixed student of SLaM."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import student_mixing_loss
from tests.reference.distillation import by_token
from tests.reference.distillation import log_softmax
from tests.reference.distillation import student_mixing


def draw(shape, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(2, *shape))).astype("float32")


def with_gradient(teacher, student, *args, **kwargs):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = student_mixing_loss(teacher, student, *args, **kwargs)
    return loss.numpy(), tape.gradient(loss, student).numpy()


def crossentropy(teacher, student):
    return -np.exp(log_softmax(teacher)) @ log_softmax(student)


SHAPES = {
    "shape": st.sampled_from([(5,), (3, 6), (2, 4, 7)]),
    "scale": st.sampled_from([0.1, 1.0, 5.0]),
    "candidates": st.integers(1, 5),
    "seed": st.integers(0, 999),
}


@given(**SHAPES)
def test_equals_the_loop(shape, scale, candidates, seed):
    teacher, student = draw(shape, scale, seed)
    accuracy = np.random.default_rng(seed).uniform(0.05, 1, shape[:-1])
    received = student_mixing_loss(teacher, student, accuracy, candidates)
    assert received.dtype == "float32"
    assert received.shape == shape[:-1]
    expected = by_token(
        student_mixing,
        teacher,
        student,
        accuracy,
        num_candidates=candidates,
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@given(**SHAPES)
def test_a_teacher_that_is_right_is_plainly_learned_from(
    shape, scale, candidates, seed
):
    teacher, student = draw(shape, scale, seed)
    loss, gradient = with_gradient(
        teacher, student, np.ones(shape[:-1]), candidates
    )
    np.testing.assert_allclose(
        loss, by_token(crossentropy, teacher, student), rtol=1e-5
    )
    p, f = (
        np.exp(np.apply_along_axis(log_softmax, -1, x))
        for x in (teacher, student)
    )
    np.testing.assert_allclose(gradient, f - p, rtol=1e-4, atol=1e-5)


@given(**SHAPES, step=st.integers(0, 4))
def test_the_gradient_is_that_of_the_loop(shape, scale, candidates, seed, step):
    teacher, student = draw(shape, scale, seed)
    accuracy = np.random.default_rng(seed).uniform(0.1, 0.9, shape[:-1])
    _, gradient = with_gradient(teacher, student, accuracy, candidates)
    h = np.zeros(shape[-1])
    h[step] = 1e-6
    up, down = (
        by_token(
            student_mixing,
            teacher,
            np.float64(student) + sign * h,
            accuracy,
            num_candidates=candidates,
        )
        for sign in (1, -1)
    )
    np.testing.assert_allclose(
        gradient[..., step], (up - down) / 2e-6, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("candidates", [1, 2, 4])
def test_confident_students_have_a_finite_gradient(candidates, accuracy):
    teacher, _ = draw((4, 4))
    a = np.full(4, accuracy)
    for size in (20.0, 1e3, 1e4):
        student = np.eye(4, dtype="float32") * size  # right and wrong
        loss, gradient = with_gradient(teacher, student, a, candidates)
        assert np.isfinite(loss).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("candidates", [1, 2])
def test_certainty_is_the_limit_of_confidence(candidates):
    # At a difference of 17, float32 calls the student certain.
    teacher = np.array([5.0, 0.0, 0.0])
    for size in (10.0, 15.0, 17.0, 18.0, 30.0):
        student = np.array([size, 0.0, 0.0], "float32")
        # The loop loses 1 - f, too, from a difference of 36 on.
        expected = student_mixing(teacher, student, 0.5, candidates)
        received = student_mixing_loss(
            teacher[None], student[None], np.array([0.5]), candidates
        )
        np.testing.assert_allclose(received, [expected], rtol=1e-4)


def test_ties_are_all_candidates():
    teacher = np.array([[2.0, 1.0, 1.0, 1.0, 0.0]])
    student, _ = draw((1, 5))
    two, four, five = (
        float(student_mixing_loss(teacher, student, np.array([0.7]), n)[0])
        for n in (2, 4, 5)
    )
    assert two == four
    assert two != five


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_padding_has_no_say(poison):
    teacher, student = draw((2, 4, 6))
    mask = np.arange(4) < np.array([[3], [0]])
    accuracy = np.full((2, 4), 0.6, "float32")
    clean = with_gradient(teacher, student, accuracy, 3, mask)
    holes = np.where(mask, 0, poison).astype("float32")
    bad = holes[..., None]
    for teacher_, student_, accuracy_ in (
        (teacher + bad, student, accuracy),
        (teacher, student + bad, accuracy),
        (teacher, student, accuracy + holes),
    ):
        dirty = with_gradient(teacher_, student_, accuracy_, 3, mask)
        for received, expected in zip(dirty, clean, strict=True):
            np.testing.assert_array_equal(received, expected)
            assert not received[~mask].any()
    unmasked = student_mixing_loss(teacher, student, accuracy, 3)
    np.testing.assert_array_equal(clean[0][mask], unmasked.numpy()[mask])


def test_forbidden_tokens_cost_nothing():
    teacher, student = draw((3, 6))
    teacher[:, 4:] = student[:, 4:] = -np.inf
    a = np.full(3, 0.6)
    loss, gradient = with_gradient(teacher, student, a, 3)
    fewer, expected = with_gradient(teacher[:, :4], student[:, :4], a, 3)
    np.testing.assert_allclose(loss, fewer, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, :4], expected, atol=1e-6)
    assert not gradient[:, 4:].any()


def test_half_precision_is_computed_in_float32():
    teacher, student = (tf.cast(x, "bfloat16") for x in draw((9, 30), 3.0))
    accuracy = np.linspace(0.1, 1.0, 9)
    received = student_mixing_loss(teacher, student, accuracy)
    assert received.dtype == "float32"
    expected = by_token(
        student_mixing,
        tf.cast(teacher, "float64").numpy(),
        tf.cast(student, "float64").numpy(),
        accuracy,
        num_candidates=5,
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("sizes", "candidates", "message"),
    [
        ((3, 4), 2, "3 logits of the teacher, 4 of the student"),
        ((4, 4), 0, "`num_candidates` must be a positive integer"),
        ((4, 4), 5, "at most the vocabulary's 4.*num_candidates=5"),
    ],
)
def test_arguments_are_checked(sizes, candidates, message):
    teacher, student = (np.zeros((1, size)) for size in sizes)
    with pytest.raises(ValueError, match=message):
        student_mixing_loss(teacher, student, np.ones(1), candidates)
