"""A weight of an example counts wherever a model learns from it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.data import with_example_weights
from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import Distiller
from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import StudentLabelMixing
from keras_moe.distillation import TeacherAccuracy
from keras_moe.distillation import TokenDistillation
from keras_moe.distillation import read_teacher_logits
from keras_moe.distillation import write_teacher_logits
from keras_moe.training import Trainer
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import TARGET
from tests.distillation.distiller_case import WEIGHTS
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LOSSES = [
    TokenDistillation(2.0),
    StudentLabelMixing(TeacherAccuracy([0.0], [0.8]), num_candidates=2),
    HiddenStateDistillation("hidden", "hidden"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda each: type(each).__name__)
def test_the_loss_is_the_weighted_sum_over_the_number(loss):
    distiller = Distiller(classifier(0), classifier(1), loss)
    compiled(distiller, loss=LOSS)
    alone = [
        evaluate(distiller, FEATURES[i : i + 1], LABELS[i : i + 1])["loss"]
        for i in range(6)
    ]
    found = evaluate(distiller, FEATURES, LABELS, WEIGHTS)["loss"]
    assert found == pytest.approx(np.dot(alone, WEIGHTS) / 6, rel=1e-5)


@pytest.mark.parametrize("kind", [SparseToDenseDistiller, EarlyExitDistiller])
def test_sequences_of_weight_0_teach_nothing(kind):
    distiller = compiled(kind(*pair()))
    alone = evaluate(distiller, *first_of(INPUTS, TARGET))
    found = evaluate(distiller, INPUTS, TARGET, np.array([1.0, 0.0]))
    tokens = (TARGET != 0).sum(axis=1)
    for part in ("student_loss", "distillation_loss"):
        expected = alone[part] * tokens[0] / tokens.sum()
        assert found[part] == pytest.approx(expected, rel=1e-4)


def first_of(inputs, target):
    return {name: values[:1] for name, values in inputs.items()}, target[:1]


def distilled(data, jit_compile=False, **options):
    student = classifier(1)
    distiller = SparseToDenseDistiller(classifier(0), student)
    distiller.compile(
        keras.optimizers.SGD(0.5),
        LOSS,
        metrics=[keras.metrics.SparseCategoricalAccuracy("plain")],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("weighed")],
        jit_compile=jit_compile,
    )
    logs = Trainer(distiller, **options).fit(data, verbose=0).history
    return student.get_weights(), logs


def batches(size, column=False):
    if column:
        inputs = {"x": FEATURES, "example_weight": WEIGHTS}
        data = tf.data.Dataset.from_tensor_slices((inputs, LABELS)).batch(size)
        return with_example_weights(data).map(lambda x, y, w: (x["x"], y, w))
    parts = (FEATURES, LABELS, WEIGHTS)
    return tf.data.Dataset.from_tensor_slices(parts).batch(size)


# By XLA a column of weights, by default; without, accumulation in `training`.
@pytest.mark.parametrize(
    ("size", "column"),
    [pytest.param(3, False, marks=pytest.mark.large), (2, True)],
)
def test_accumulated_steps_and_a_column_of_weights_come_to_the_same(
    size, column
):
    whole, logs = distilled(batches(6))
    weights, other = distilled(
        batches(size, column), column, gradient_accumulation_steps=6 // size
    )
    for one, another in zip(whole, weights, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-6)
    for name, values in other.items():
        assert values == pytest.approx(logs[name], rel=1e-4), name
    plain = tf.data.Dataset.from_tensor_slices((FEATURES, LABELS)).batch(6)
    unweighted, _ = distilled(plain)
    assert any(
        np.abs(one - other).max() > 1e-3
        for one, other in zip(whole, unweighted, strict=True)
    )


def test_metrics_weigh_if_they_are_asked_to():
    student = classifier(1)
    _, logs = distilled(batches(6))
    right = np.asarray(student(FEATURES)).argmax(-1) == LABELS
    assert 0 < right.mean() < 1
    assert logs["plain"][0] == pytest.approx(right.mean())
    weighed = np.average(right, weights=WEIGHTS)
    assert logs["weighed"][0] == pytest.approx(weighed)


def test_cached_answers_keep_the_weights(tmp_path):
    teacher, student = pair()
    weights = np.array([0.25, 2.0])
    given = tf.data.Dataset.from_tensor_slices((INPUTS, TARGET, weights))
    write_teacher_logits(
        teacher, given.batch(2), tmp_path / "logits", k=32, verbose=0
    )
    direct = compiled(SparseToDenseDistiller(teacher, student))
    expected = evaluate(direct, INPUTS, TARGET, weights)
    cached = CachedTeacher(teacher.config.output_size)
    distiller = compiled(SparseToDenseDistiller(cached, student))
    lessons = read_teacher_logits(tmp_path / "logits").padded_batch(2)
    found = evaluate(distiller, lessons)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
