"""What a distiller refuses, before it trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.losses import token_crossentropy
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import TARGET
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair
from tests.distillation.distiller_case import transformer


@pytest.fixture(scope="module")
def models():
    """A pair that is not trained: who is refused is as it was."""
    return pair()


def broken(model):
    for weight in model.weights:
        if weight.path.endswith("target_embedding/embeddings"):
            weight.assign(np.full(weight.shape, np.nan))
    return model


@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_teacher_of_nans_is_refused_before_training(as_dataset):
    # Of its own: `pair` has one teacher for all.
    teacher, student = transformer(0), transformer(1, num_experts=0)
    distiller = compiled(SparseToDenseDistiller(broken(teacher), student))
    before = [np.array(weight) for weight in student.weights]
    x, y = INPUTS, TARGET
    if as_dataset:
        x, y = tf.data.Dataset.from_tensors((INPUTS, TARGET)), None

    with pytest.raises(ValueError, match="logits must be numbers"):
        distiller.fit(x, y, verbose=0)

    for weight, value in zip(student.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="same vocabulary.*vocabulary_size=32"):
        SparseToDenseDistiller(
            transformer(0), transformer(1, num_experts=0, vocabulary_size=40)
        )
    with pytest.raises(ValueError, match="outputs of the same shape"):
        SparseToDenseDistiller(classifier(0), classifier(1, units=4))


class Unknown(keras.Model):
    """A subclassed teacher whose number of classes shows when it is called."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(7)

    def call(self, inputs, training=None):
        return self.dense(inputs)


def test_classes_that_show_late_are_compared_before_training():
    distiller = compiled(
        SparseToDenseDistiller(Unknown(), classifier(1)), loss="mse"
    )

    with pytest.raises(ValueError, match=r"\(6, 7\) of the teacher"):
        distiller.fit(FEATURES, np.eye(3)[LABELS], verbose=0)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_probabilities_are_refused_before_training(role):
    models = {"teacher": classifier(0), "student": classifier(1)}
    plain = models[role]
    models[role] = keras.Model(
        plain.inputs, keras.layers.Softmax()(plain.output)
    )
    distiller = compiled(SparseToDenseDistiller(**models), loss="mse")

    with pytest.raises(ValueError, match=f"{role} that are probabilities"):
        distiller.fit(FEATURES, np.eye(3)[LABELS], verbose=0)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((3, 1), "teacher has the decoder layers 1 to 2"),
        ((1, 0), "student has the decoder layers 1 to 2"),
        (("dense", 1), "subclassed"),
    ],
)
def test_missing_layers_are_refused(models, layers, message):
    with pytest.raises(ValueError, match=message):
        SparseToDenseDistiller(*models, HiddenStateDistillation(*layers))


def test_missing_names_are_refused():
    with pytest.raises(ValueError, match="no layer of that name"):
        SparseToDenseDistiller(
            classifier(0),
            classifier(1),
            HiddenStateDistillation("absent", "hidden"),
        )
    with pytest.raises(ValueError, match="Decoder layers have numbers"):
        SparseToDenseDistiller(
            classifier(0), classifier(1), HiddenStateDistillation(1, "hidden")
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distillation_losses": "kl_divergence"}, "must be losses of"),
        ({"distillation_losses": []}, "There must be a distillation loss"),
        ({"distillation_loss_weights": [1.0, 2.0]}, "a weight for each"),
        ({"distillation_loss_weights": "a"}, "numbers of at least 0"),
        ({"distillation_loss_weights": -1.0}, "numbers of at least 0"),
        ({"student_loss_weight": 1.5}, r"must be in \[0, 1\]"),
        ({"student_loss_weight": np.nan}, r"must be in \[0, 1\]"),
    ],
)
def test_bad_arguments_are_refused(models, arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseToDenseDistiller(*models, **arguments)


def test_a_model_does_not_teach_itself():
    student = classifier(0)

    with pytest.raises(ValueError, match="must be two models"):
        SparseToDenseDistiller(student, student)
    with pytest.raises(ValueError, match="must be a `keras.Model`"):
        SparseToDenseDistiller(None, student)


def test_another_backend_is_refused(models, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="TensorFlow backend alone"):
        SparseToDenseDistiller(*models)


def test_a_loss_is_needed_where_there_is_no_default():
    distiller = SparseToDenseDistiller(classifier(0), classifier(1))

    with pytest.raises(ValueError, match="`loss` must be given"):
        distiller.compile("sgd")


def test_a_loss_for_the_whole_batch_cannot_be_weighted(models):
    def loss(labels, logits):
        return token_crossentropy(labels, logits)

    distiller = compiled(SparseToDenseDistiller(*models), loss=loss)

    with pytest.raises(ValueError, match="cannot weigh examples"):
        evaluate(distiller, INPUTS, TARGET, np.ones(2))
