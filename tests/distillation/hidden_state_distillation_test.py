"""The teacher's hidden states as targets."""

import keras
import numpy as np
import pytest

from keras_moe.distillation import HiddenStateDistillation
from keras_moe.models import SwitchTransformer
from tests.reference.distillation import by_token
from tests.reference.distillation import cosine_distance
from tests.reference.distillation import mean_squared


def functional(size, name="hidden"):
    inputs = keras.Input((3, 5))
    hidden = keras.layers.Dense(size, name=name)(inputs)
    return keras.Model(inputs, keras.layers.Dense(4)(hidden))


def sequential(size):
    return keras.Sequential(
        [
            keras.Input((3, 5)),
            keras.layers.Dense(size, name="hidden"),
            keras.layers.Dense(4),
        ]
    )


def transformer(**sizes):
    return SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, num_encoder_layers=1, **sizes
    )


def draw(teacher_size, student_size):
    return [
        np.random.normal(size=(2, 3, size)).astype("float32")
        for size in (teacher_size, student_size)
    ]


@pytest.mark.parametrize("make", [functional, sequential])
def test_the_projection_leads_from_one_size_to_the_other(make):
    loss = HiddenStateDistillation("hidden", "hidden")
    assert loss.projection_layer is None
    loss.validate_model_compatibility(functional(7), make(2))
    (kernel,) = loss.projection_layer.trainable_variables
    assert kernel.shape == (2, 7)


def test_the_projection_of_numbered_layers():
    loss = HiddenStateDistillation(3, 1)
    loss.validate_model_compatibility(
        transformer(num_decoder_layers=3),
        transformer(num_decoder_layers=1, model_dim=8),
    )
    (kernel,) = loss.projection_layer.trainable_variables
    assert kernel.shape == (8, 16)


@pytest.mark.parametrize(
    ("distance", "function"),
    [("mse", mean_squared), ("cosine", cosine_distance)],
)
def test_is_the_distance_of_the_projected_state(distance, function):
    loss = HiddenStateDistillation("hidden", "hidden", distance)
    loss.validate_model_compatibility(functional(7), functional(2))
    teacher, student = draw(7, 2)
    projected = student @ np.asarray(loss.projection_layer.kernel)
    expected = by_token(function, teacher, projected)
    np.testing.assert_allclose(
        loss.compute_values(teacher, student), expected, rtol=1e-5
    )
    mask = np.array([[True, True, False], [True, False, False]])
    teacher[~mask] = student[~mask] = np.nan
    received = loss.compute_loss(
        teacher, student, mask=mask, sample_weight=np.array([1.0, 2.0])
    )
    total = expected[0, :2].sum() + 2 * expected[1, 0]
    np.testing.assert_allclose(received, total / 3, rtol=1e-5)


def test_the_projection_is_left_out():
    loss = HiddenStateDistillation("hidden", "hidden", projection=False)
    loss.validate_model_compatibility(functional(7), functional(7))
    assert loss.projection_layer is None
    teacher, student = draw(7, 7)
    np.testing.assert_allclose(
        loss.compute_values(teacher, student),
        by_token(mean_squared, teacher, student),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="7 of the teacher, 2 of the student"):
        loss.validate_model_compatibility(functional(7), functional(2))


def test_survives_its_config():
    loss = HiddenStateDistillation("hidden", 2, "cosine", projection=False)
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, HiddenStateDistillation)
    assert again.get_config() == {
        "teacher_layer": "hidden",
        "student_layer": 2,
        "distance": "cosine",
        "projection": False,
    }


def test_the_distance_is_checked():
    with pytest.raises(ValueError, match="`distance` must be one of.*'l1'"):
        HiddenStateDistillation(1, 1, distance="l1")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("hiden", "hidden"), "teacher has no layer.*teacher_layer='hiden'"),
        (("hidden", "other"), "student has no layer.*student_layer='other'"),
        ((1, "hidden"), "give a layer's name.*teacher_layer=1 of Functional"),
    ],
)
def test_there_must_be_such_layers(layers, message):
    loss = HiddenStateDistillation(*layers)
    with pytest.raises(ValueError, match=message):
        loss.validate_model_compatibility(functional(7), functional(2))
    assert loss.projection_layer is None


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((0, 1), "layers 1 to 2.*teacher_layer=0"),
        ((2, 3), "layers 1 to 2.*student_layer=3"),
        ((1, -1), "layers 1 to 2.*student_layer=-1"),
        (("decoder", 1), "Functional.*teacher_layer='decoder' of SwitchTr"),
    ],
)
def test_there_must_be_such_numbers(layers, message):
    model = transformer()
    loss = HiddenStateDistillation(*layers)
    with pytest.raises(ValueError, match=message):
        loss.validate_model_compatibility(model, model)


def test_an_unbuilt_model_has_no_named_layers():
    unbuilt = keras.Sequential([keras.layers.Dense(3, name="hidden")])
    loss = HiddenStateDistillation("hidden", "hidden")
    with pytest.raises(ValueError, match="built.*student_layer='hidden'"):
        loss.validate_model_compatibility(functional(7), unbuilt)
