"""The base of all distillers: named outputs, and a teacher that is no part."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from keras_moe.distillation import Distiller
from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import TokenDistillation
from keras_moe.distillation import WeightedDistillationLoss
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import WEIGHTS
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("training", [None, False, True])
def test_outputs_have_names_whether_training_or_not(training):
    student = classifier(1)
    distiller = Distiller(
        classifier(0),
        student,
        HiddenStateDistillation("hidden", "hidden"),
        # Its output is called as the student's logits are.
        student_layers=["logits"],
    )

    outputs = distiller(FEATURES, training=training)

    assert list(outputs) == [
        "logits",
        "hidden_state/hidden",
        "hidden_state/logits",
    ]
    np.testing.assert_array_equal(outputs["logits"], student(FEATURES))
    np.testing.assert_array_equal(
        outputs["hidden_state/hidden"], student.get_layer("hidden")(FEATURES)
    )


def test_exits_have_the_names_of_their_layers():
    teacher, student = pair()
    distiller = Distiller(
        teacher, student, TokenDistillation(), student_layers=[1]
    )

    outputs = distiller(INPUTS)

    assert sorted(outputs) == [
        "hidden_state/1",
        "hidden_state/2",
        "logits",
    ]
    first, last = student.exit_states(INPUTS, [1, 2])
    np.testing.assert_array_equal(outputs["hidden_state/1"], first)
    np.testing.assert_array_equal(outputs["logits"], student.logits(last))


def test_predictions_are_logits():
    student = classifier(1)
    distiller = compiled(
        Distiller(
            classifier(0), student, HiddenStateDistillation("hidden", "hidden")
        ),
        loss=LOSS,
    )

    for predicted in (
        distiller.predict(FEATURES, verbose=0),
        distiller.predict_on_batch(FEATURES),
    ):
        np.testing.assert_allclose(predicted, student(FEATURES), atol=1e-6)


def test_the_update_follows_the_gradient_of_the_mixed_loss():
    import tensorflow as tf

    teacher, student = classifier(0), classifier(1)
    distiller = compiled(
        Distiller(
            teacher,
            student,
            TokenDistillation(2.0),
            student_loss_weight=0.3,
        ),
        loss=LOSS,
    )
    given = ops.softmax(teacher(FEATURES) / 2.0)
    with tf.GradientTape() as tape:
        made = student(FEATURES)
        hard = keras.losses.sparse_categorical_crossentropy(
            LABELS, made, from_logits=True
        )
        soft = 4 * keras.losses.kl_divergence(given, ops.softmax(made / 2.0))
        loss = tf.reduce_mean((0.3 * hard + 0.7 * soft) * WEIGHTS)
    gradients = tape.gradient(loss, student.trainable_variables)
    expected = [
        np.array(weight) - 0.1 * np.array(gradient)
        for weight, gradient in zip(
            student.trainable_variables, gradients, strict=True
        )
    ]

    distiller.train_on_batch(FEATURES, LABELS, WEIGHTS)

    for weight, value in zip(
        student.trainable_variables, expected, strict=True
    ):
        np.testing.assert_allclose(weight, value, atol=1e-6)


def test_the_teacher_is_in_no_state(tmp_path):
    teacher = classifier(0)
    distiller = compiled(
        Distiller(teacher, classifier(1), TokenDistillation()), loss=LOSS
    )
    distiller.train_on_batch(FEATURES, LABELS)

    distiller.save_weights(tmp_path / "state.weights.h5")

    assert distiller.teacher is teacher
    assert not teacher.trainable
    held = {id(variable) for variable in teacher.variables}
    for variables in (distiller.variables, distiller.optimizer.variables):
        assert not held & {id(variable) for variable in variables}
    kernel = np.array(teacher.get_layer("hidden").kernel)
    arrays = []
    with h5py.File(tmp_path / "state.weights.h5") as file:
        file.visititems(
            lambda _, item: (
                arrays.append(np.array(item))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    same = [array for array in arrays if array.shape == kernel.shape]
    assert len(same) == 1
    assert not np.array_equal(same[0], kernel)


class NormDistance(WeightedDistillationLoss):
    """Compares outputs that differ in size."""

    def compute_values(
        self, teacher_outputs, student_outputs, mask=None, labelled=None
    ):
        return ops.abs(
            ops.norm(teacher_outputs, axis=-1)
            - ops.norm(student_outputs, axis=-1)
        )


def test_outputs_of_other_sizes_are_for_the_loss_to_compare():
    teacher, student = classifier(0, units=5), classifier(1)
    distiller = compiled(
        Distiller(teacher, student, NormDistance(), student_loss_weight=0.0),
        loss=LOSS,
    )
    given, made = (np.array(model(FEATURES)) for model in (teacher, student))
    distance = np.abs(
        np.linalg.norm(given, axis=-1) - np.linalg.norm(made, axis=-1)
    )

    found = evaluate(distiller, FEATURES, LABELS, WEIGHTS)

    assert found["loss"] == pytest.approx((distance * WEIGHTS).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distillation_losses": None}, "must be losses of"),
        ({"distillation_loss_weights": [1.0, 2.0]}, "a weight for each"),
        ({"distillation_loss_weights": [True]}, "numbers of at least 0"),
        ({"student_loss_weight": -0.1}, r"must be in \[0, 1\]"),
        ({"student_loss_weight": "half"}, r"must be in \[0, 1\].*'half'"),
        ({"student_loss_weight": True}, r"must be in \[0, 1\].*True"),
        ({"student_layers": ["absent"]}, "no layer of that name"),
        ({"input_perturbation": 0.1}, "`input_perturbation` must be a func"),
        (
            {"input_perturbation": keras.layers.GaussianNoise},
            "a layer, not its class.*GaussianNoise",
        ),
    ],
)
def test_bad_arguments_leave_the_teacher_as_it_was(arguments, message):
    teacher = classifier(0)

    with pytest.raises(ValueError, match=message):
        Distiller(
            teacher,
            classifier(1),
            **{"distillation_losses": TokenDistillation(), **arguments},
        )

    assert teacher.trainable


def test_a_model_of_two_outputs_is_refused():
    plain = classifier(0)
    double = keras.Model(plain.inputs, [plain.output, plain.output])

    with pytest.raises(ValueError, match="`teacher` must have one output"):
        Distiller(double, classifier(1), TokenDistillation())


def test_what_compile_needs():
    distiller = Distiller(classifier(0), classifier(1), TokenDistillation())

    with pytest.raises(ValueError, match="must be given a `loss`"):
        distiller.compile("sgd")
    with pytest.raises(ValueError, match="`metrics` must be a list.*accuracy"):
        distiller.compile("sgd", LOSS, metrics="accuracy")
    # Keras would take them, and no loss would be weighted.
    with pytest.raises(ValueError, match="`loss_weights` must be left out"):
        distiller.compile("sgd", LOSS, loss_weights=[2.0])


def test_numbers_of_numpy_are_numbers():
    distiller = Distiller(
        classifier(0),
        classifier(1),
        TokenDistillation(),
        distillation_loss_weights=[np.float32(2.0)],
        student_loss_weight=np.float32(0.25),
    )
    assert distiller.student_loss_weight == 0.25
    assert distiller.distillation_loss_weights == [2.0]


def test_a_student_that_would_be_frozen_with_the_teacher_is_refused():
    student = classifier(1)
    teacher = keras.Sequential([keras.Input((4,)), student])

    with pytest.raises(ValueError, match="that the teacher does not use"):
        Distiller(teacher, student, TokenDistillation())

    assert student.trainable_variables
    # A student on top of its teacher learns with what is its own.
    on_top = keras.Sequential([teacher, keras.layers.Dense(3)])
    on_top.build((None, 4))
    distiller = Distiller(teacher, on_top, TokenDistillation())
    assert len(distiller.trainable_variables) == 2
