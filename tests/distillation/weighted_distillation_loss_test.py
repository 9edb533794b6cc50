"""A loss of one's own, with weights and masks."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import WeightedDistillationLoss
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import TARGET
from tests.distillation.distiller_case import WEIGHTS
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair

SHAPE = (3, 4, 6)
MASK = np.arange(4) < np.array([[4], [2], [0]])


class Distance(WeightedDistillationLoss):
    """The greatest difference of two outputs."""

    def __init__(self, layer=None):
        self.teacher_layer = self.student_layer = layer

    def compute_values(
        self, teacher_outputs, student_outputs, mask=None, labelled=None
    ):
        difference = ops.abs(teacher_outputs - student_outputs)
        return ops.max(difference, axis=-1)


class DistanceOfPositive(Distance):
    def is_counted(self, teacher_outputs):
        return teacher_outputs[..., 0] > 0


def draw():
    return np.random.normal(size=(2, *SHAPE)).astype("float32")


def reference(teacher, student):
    return np.abs(teacher - student).max(axis=-1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [None, (3,), (3, 1), (3, 4)])
@pytest.mark.parametrize("loss", [Distance(), DistanceOfPositive()])
def test_is_the_weighted_mean_of_what_counts(loss, shape, masked):
    teacher, student = draw()
    mask = MASK if masked else np.ones(SHAPE[:2], bool)
    weights = None if shape is None else np.random.uniform(size=shape)
    counted = mask
    if isinstance(loss, DistanceOfPositive):
        counted = mask & (teacher[..., 0] > 0)
    factors = np.ones(SHAPE[:2])
    if shape is not None:
        factors = np.broadcast_to(weights.reshape(3, -1), SHAPE[:2])
    expected = (reference(teacher, student) * factors)[counted].sum()
    expected /= max(counted.sum(), 1)
    student[~mask] = np.nan

    received = loss.compute_loss(
        teacher,
        student,
        mask=mask if masked else None,
        sample_weight=weights,
    )

    assert received.dtype == "float32"
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_values_without_a_length():
    teacher, student = draw()[:, :, 0]
    weights = np.array([1.0, 0.0, 2.0])

    received = Distance().compute_loss(teacher, student, sample_weight=weights)

    np.testing.assert_allclose(
        received, (reference(teacher, student) * weights).mean(), rtol=1e-5
    )


def test_no_value_is_a_loss_of_zero():
    teacher, student = draw()
    mask = np.zeros(SHAPE[:2], bool)

    assert float(Distance().compute_loss(teacher, student, mask=mask)) == 0


def test_in_a_distiller_against_numpy():
    teacher, student = pair()
    distiller = compiled(
        SparseToDenseDistiller(teacher, student, Distance()),
    )
    weights = np.array([0.5, 2.0])
    given, made = (np.array(model(INPUTS)) for model in (teacher, student))
    real = TARGET != 0
    expected = (reference(given, made) * weights[:, None])[real].sum()

    found = evaluate(distiller, INPUTS, TARGET, weights)

    assert found["distillation_loss"] == pytest.approx(
        expected / real.sum(), rel=1e-5
    )


def test_on_a_hidden_state_against_numpy():
    teacher, student = classifier(0), classifier(1)
    distiller = compiled(
        SparseToDenseDistiller(teacher, student, Distance("hidden")),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    given, made = (
        np.array(model.get_layer("hidden")(FEATURES))
        for model in (teacher, student)
    )

    found = evaluate(distiller, FEATURES, LABELS, WEIGHTS)

    assert found["distillation_loss"] == pytest.approx(
        (reference(given, made) * WEIGHTS).mean(), rel=1e-5
    )


def test_labels_known_to_be_right_are_handed_on():
    seen = []

    class Seeing(Distance):
        def compute_values(
            self, teacher_outputs, student_outputs, mask=None, labelled=None
        ):
            seen.append(np.array(labelled))
            return super().compute_values(teacher_outputs, student_outputs)

    distiller = compiled(SparseToDenseDistiller(*pair(), Seeing()))
    trusted = np.array([True, False])

    evaluate(distiller, {**INPUTS, "labelled": trusted}, TARGET)

    np.testing.assert_array_equal(seen, [trusted])


class Returning(WeightedDistillationLoss):
    def __init__(self, reduce):
        self.reduce = reduce

    def compute_values(
        self, teacher_outputs, student_outputs, mask=None, labelled=None
    ):
        return self.reduce(teacher_outputs - student_outputs)


@pytest.mark.parametrize(
    ("reduce", "mask", "shape"),
    [
        (ops.mean, None, r"\(\)"),
        (ops.mean, MASK, r"\(\)"),
        (ops.square, MASK, r"\(3, 4, 6\)"),
        (lambda x: ops.mean(x, axis=(1, 2)), MASK, r"\(3,\)"),
    ],
)
def test_values_must_be_of_examples_or_tokens(reduce, mask, shape):
    teacher, student = draw()

    with pytest.raises(
        ValueError, match=f"a value for each.*shape={shape} of Returning"
    ):
        Returning(reduce).compute_loss(teacher, student, mask=mask)


def test_there_must_be_values():
    with pytest.raises(NotImplementedError, match="must implement `comp"):
        WeightedDistillationLoss().compute_loss(*draw())
