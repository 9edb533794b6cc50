"""What a distiller minimises, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import TokenDistillation
from keras_moe.losses import token_crossentropy
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import RNG
from tests.distillation.distiller_case import TARGET
from tests.distillation.distiller_case import WEIGHTS
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import crossentropy
from tests.distillation.distiller_case import divergence
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair
from tests.distillation.distiller_case import transformer


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_classifier_against_numpy(weight, weighted):
    teacher, student = classifier(0), classifier(1)
    distiller = compiled(
        SparseToDenseDistiller(
            teacher,
            student,
            [TokenDistillation(2.0), TokenDistillation()],
            [1.0, 0.5],
            student_loss_weight=weight,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    given, made = (np.array(model(FEATURES)) for model in (teacher, student))
    factors = WEIGHTS if weighted else np.ones(6)
    hard = (crossentropy(LABELS, made) * factors).mean()
    soft = divergence(given, made, 2.0) + 0.5 * divergence(given, made)
    soft = (soft * factors).mean()

    found = evaluate(distiller, FEATURES, LABELS, WEIGHTS if weighted else None)

    assert found["loss"] == pytest.approx(
        weight * hard + (1 - weight) * soft, rel=1e-5
    )
    assert found["total_loss"] == pytest.approx(found["loss"], rel=1e-6)


# Weights of rows, by default, in `example_weights_test`.
@pytest.mark.parametrize(
    "shape", [pytest.param("batch", marks=pytest.mark.large), "tokens"]
)
def test_transformer_against_numpy(shape):
    teacher, student = pair()
    distiller = compiled(SparseToDenseDistiller(teacher, student))
    weights = np.array([0.5, 2.0])
    if shape == "tokens":
        weights = RNG.uniform(size=TARGET.shape)
    given, made = (np.array(model(INPUTS)) for model in (teacher, student))
    real = TARGET != 0
    factors = weights if shape == "tokens" else weights[:, None]
    hard, soft = (
        (cost * factors)[real].sum() / real.sum()
        for cost in (crossentropy(TARGET, made), divergence(given, made))
    )

    found = evaluate(distiller, INPUTS, TARGET, weights)

    assert found["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert found["distillation_loss"] == pytest.approx(soft, rel=1e-5)
    assert found["loss"] == pytest.approx(0.75 * hard + 0.25 * soft, rel=1e-5)


def test_weights_of_zero_leave_nothing():
    distiller = compiled(SparseToDenseDistiller(*pair()))

    assert evaluate(distiller, INPUTS, TARGET, np.zeros(2))["loss"] == 0


def test_more_padding_changes_nothing():
    distiller = compiled(SparseToDenseDistiller(*pair()))
    padded = {
        name: np.pad(ids, [(0, 0), (0, 3)]) for name, ids in INPUTS.items()
    }

    found = evaluate(distiller, padded, np.pad(TARGET, [(0, 0), (0, 3)]))

    assert found["loss"] == pytest.approx(
        evaluate(distiller, INPUTS, TARGET)["loss"], rel=1e-5
    )


def test_masks_of_keras_count():
    def tagger(seed):
        keras.utils.set_random_seed(seed)
        ids = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(10, 4, mask_zero=True)(ids)
        return keras.Model(ids, keras.layers.Dense(3)(x))

    distiller = compiled(
        SparseToDenseDistiller(tagger(0), tagger(1)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    ids, tags = np.array([[3, 4, 5]]), np.array([[0, 1, 2]])
    short = evaluate(distiller, ids, tags)
    long = evaluate(
        distiller,
        np.pad(ids, [(0, 0), (0, 2)]),
        np.pad(tags, [(0, 0), (0, 2)]),
    )

    for name in ("student_loss", "distillation_loss"):
        assert long[name] == pytest.approx(short[name], rel=1e-6)


def test_untrusted_labels_teach_nothing():
    teacher, student = pair()
    distiller = compiled(SparseToDenseDistiller(teacher, student))
    trusted = np.array([True, False])
    made = np.array(student(INPUTS))
    real = TARGET != 0

    found = evaluate(distiller, {**INPUTS, "labelled": trusted}, TARGET)

    hard = crossentropy(TARGET, made) * trusted[:, None]
    assert found["student_loss"] == pytest.approx(
        hard[real].sum() / real.sum(), rel=1e-5
    )
    whole = evaluate(distiller, INPUTS, TARGET)
    assert found["distillation_loss"] == pytest.approx(
        whole["distillation_loss"], rel=1e-6
    )


def test_without_labels_the_teacher_is_all():
    distiller = compiled(SparseToDenseDistiller(*pair()))
    data = tf.data.Dataset.from_tensors((INPUTS,))

    found = evaluate(distiller, data)

    # The same tokens are real, as far as the inputs tell.
    whole = evaluate(distiller, INPUTS, TARGET)
    assert found["student_loss"] == 0
    assert found["distillation_loss"] == pytest.approx(
        whole["distillation_loss"], rel=1e-6
    )


def test_auxiliary_losses_of_the_student_count():
    teacher, student = transformer(0), transformer(1, jitter_noise=0.0)
    distiller = compiled(
        SparseToDenseDistiller(teacher, student, student_loss_weight=1.0),
    )
    student(INPUTS, training=True)
    extra = float(sum(student.losses))
    made = student(INPUTS, training=True)
    hard = float(token_crossentropy(TARGET, made))

    found = distiller.train_on_batch(INPUTS, TARGET, return_dict=True)

    assert extra > 0
    assert found["loss"] == pytest.approx(hard + extra, rel=1e-5)
    assert found["student_loss"] == pytest.approx(hard, rel=1e-5)


def test_hidden_states_of_decoder_layers():
    teacher, student = pair()
    distiller = compiled(
        SparseToDenseDistiller(
            teacher,
            student,
            HiddenStateDistillation(2, 1, projection=False),
            student_loss_weight=0.0,
        )
    )
    (given,) = teacher.exit_states(INPUTS, [2])
    (made,) = student.exit_states(INPUTS, [1])
    squares = np.square(np.array(given) - np.array(made)).mean(axis=-1)

    found = evaluate(distiller, INPUTS, TARGET)

    assert found["loss"] == pytest.approx(squares[TARGET != 0].mean(), rel=1e-5)


def test_keras_losses_are_taken_where_nothing_is_lost():
    loss = keras.distillation.FeatureDistillation(
        teacher_layer_name="hidden", student_layer_name="hidden"
    )
    teacher, student = classifier(0), classifier(1)
    distiller = compiled(
        SparseToDenseDistiller(teacher, student, loss, student_loss_weight=0.0),
        loss="mse",
    )
    given, made = (
        np.array(model.get_layer("hidden")(FEATURES))
        for model in (teacher, student)
    )

    found = evaluate(distiller, FEATURES, LABELS)

    assert found["loss"] == pytest.approx(
        np.square(given - made).mean(), rel=1e-5
    )
    with pytest.raises(ValueError, match="must be honoured by each loss"):
        evaluate(distiller, FEATURES, LABELS, WEIGHTS)


def test_layers_of_a_sequential_model_have_names_too():
    def make(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(5, name="hidden"),
                keras.layers.Dense(3),
            ]
        )

    teacher, student = make(0), make(1)
    loss = HiddenStateDistillation("hidden", "hidden", projection=False)
    distiller = compiled(
        SparseToDenseDistiller(teacher, student, loss, student_loss_weight=0.0),
        loss="mse",
    )
    given, made = (
        np.array(model.layers[0](FEATURES)) for model in (teacher, student)
    )

    found = evaluate(distiller, FEATURES, LABELS)

    assert found["loss"] == pytest.approx(
        np.square(given - made).mean(), rel=1e-5
    )
