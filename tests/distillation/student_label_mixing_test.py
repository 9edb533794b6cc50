"""SLaM, with labelled examples among the others."""

import keras
import numpy as np
import pytest

from keras_moe.distillation import StudentLabelMixing
from keras_moe.distillation import TeacherAccuracy
from tests.reference.distillation import by_token
from tests.reference.distillation import log_softmax
from tests.reference.distillation import margin
from tests.reference.distillation import student_mixing

SHAPE = (3, 4, 6)
STEPS = ((0.0, 0.2, 0.4), (0.1, 0.6, 0.9))


@pytest.fixture
def loss():
    return StudentLabelMixing(TeacherAccuracy(*STEPS), num_candidates=3)


def draw():
    return np.random.normal(size=(2, *SHAPE)).astype("float32") * 2


def accuracy_of(teacher):
    margins = np.apply_along_axis(margin, -1, teacher)
    steps = np.searchsorted(STEPS[0], margins, side="right") - 1
    return np.array(STEPS[1])[steps]


def crossentropy(teacher, student):
    return -np.exp(log_softmax(teacher)) @ log_softmax(student)


def mixed(teacher, student):
    accuracy = accuracy_of(teacher)
    assert len(np.unique(accuracy)) > 1
    return by_token(
        student_mixing, teacher, student, accuracy, num_candidates=3
    )


def test_the_accuracy_is_that_of_the_margin(loss):
    teacher, student = draw()
    np.testing.assert_allclose(
        loss.compute_values(teacher, student),
        mixed(teacher, student),
        rtol=1e-4,
    )


@pytest.mark.parametrize("dtype", ["bool", "int32"])
def test_labelled_examples_are_learned_from_as_they_are(loss, dtype):
    teacher, student = draw()
    labelled = np.array([True, False, True])
    received = loss.compute_values(
        teacher, student, labelled=labelled.astype(dtype)
    )
    expected = np.where(
        labelled[:, None],
        by_token(crossentropy, teacher, student),
        mixed(teacher, student),
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, labelled=labelled),
        expected.mean(),
        rtol=1e-4,
    )


def test_outputs_without_a_length(loss):
    teacher, student = draw()[:, 0]
    labelled = np.array([True, False, False, True])
    received = loss.compute_values(teacher, student, labelled=labelled)
    expected = np.where(
        labelled,
        by_token(crossentropy, teacher, student),
        by_token(
            student_mixing,
            teacher,
            student,
            accuracy_of(teacher),
            num_candidates=3,
        ),
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4)


def test_masks_and_weights_count(loss):
    teacher, student = draw()
    expected = mixed(teacher, student)
    mask = np.arange(SHAPE[1]) < np.array([[4], [2], [0]])
    teacher[~mask] = student[~mask] = np.nan
    weights = np.array([1.0, 3.0, 5.0])
    received = loss.compute_loss(
        teacher, student, mask=mask, sample_weight=weights
    )
    total = expected[0].sum() + 3 * expected[1, :2].sum()
    np.testing.assert_allclose(received, total / 6, rtol=1e-4)


def test_survives_its_config(loss):
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, StudentLabelMixing)
    assert again.accuracy == loss.accuracy
    assert again.num_candidates == 3
    pair = draw()
    np.testing.assert_array_equal(
        again.compute_values(*pair), loss.compute_values(*pair)
    )


def test_arguments_are_checked():
    accuracy = TeacherAccuracy(*STEPS)
    with pytest.raises(ValueError, match="`num_candidates` must be a positive"):
        StudentLabelMixing(accuracy, num_candidates=0)
    with pytest.raises(ValueError, match="must be a.*TeacherAccuracy"):
        StudentLabelMixing(0.9)


def test_of_few_tokens_all_are_candidates():
    accuracy, pair = TeacherAccuracy(*STEPS), draw()
    np.testing.assert_array_equal(
        StudentLabelMixing(accuracy, num_candidates=7).compute_values(*pair),
        StudentLabelMixing(accuracy, num_candidates=6).compute_values(*pair),
    )
