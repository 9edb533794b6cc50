"""Inputs that a generator makes near those of a batch."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_moe.distillation import LatentExploration
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.losses import token_kl_divergence
from tests.covering import covering
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import classifier

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MATRIX = np.random.default_rng(3).normal(size=(4, 4)).astype("float32")


def encoder(x):
    return ops.matmul(x, MATRIX)


def decoder(z):
    return ops.matmul(z, np.linalg.inv(MATRIX))


def test_without_noise_the_inputs_come_back():
    explore = LatentExploration(encoder, decoder, noise_scale=0.0)
    np.testing.assert_allclose(explore(FEATURES), FEATURES, atol=1e-4)


def test_noise_is_as_wide_as_codes_are():
    explore = LatentExploration(encoder, decoder, noise_scale=0.5, seed=0)
    x = np.random.default_rng(0).normal(size=(4000, 4)).astype("float32")
    moved = np.asarray(encoder(explore(x))) - np.asarray(encoder(x))
    spread = np.asarray(encoder(x)).std(axis=0)
    np.testing.assert_allclose(moved.std(axis=0), 0.5 * spread, rtol=0.06)
    # Another noise in each call.
    again = np.asarray(encoder(explore(x))) - np.asarray(encoder(x))
    assert np.abs(again - moved).mean() > 0.1


def test_one_row_is_explored_at_the_scale_of_its_code():
    explore = LatentExploration(encoder, decoder, noise_scale=0.5, seed=0)
    x = FEATURES[:1]
    code = np.asarray(encoder(x))
    moved = [np.asarray(encoder(explore(x))) - code for _ in range(500)]
    expected = 0.5 * np.sqrt(np.mean(code**2))
    np.testing.assert_allclose(np.std(moved), expected, rtol=0.06)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_no_number_spoils_no_other(value):
    broken = FEATURES.copy()
    broken[2, 1] = value
    others = np.arange(len(FEATURES)) != 2

    def spread(x):
        # The same noise in each.
        explore = LatentExploration(encoder, decoder, seed=0)
        return np.asarray(encoder(explore(x))) - np.asarray(encoder(x))

    deviation = np.asarray(encoder(FEATURES[others])).std(axis=0)
    whole = np.asarray(encoder(FEATURES)).std(axis=0)
    np.testing.assert_allclose(
        (spread(broken) / deviation)[others],
        (spread(FEATURES) / whole)[others],
        rtol=1e-2,
        atol=1e-3,
    )


def test_the_gradient_leads_to_where_they_disagree():
    teacher, student = classifier(0), classifier(1)

    def divergence(x):
        return np.asarray(token_kl_divergence(teacher(x), student(x)))

    explore = LatentExploration(
        encoder,
        decoder,
        noise_scale=0.0,
        teacher=teacher,
        student=student,
        num_steps=5,
        step_size=0.02,
    )
    assert (divergence(explore(FEATURES)) > divergence(FEATURES)).all()


def test_a_step_has_its_length():
    explore = LatentExploration(
        encoder,
        decoder,
        noise_scale=0.0,
        teacher=classifier(0),
        student=classifier(1),
        num_steps=1,
        step_size=0.3,
    )
    moved = np.asarray(encoder(explore(FEATURES))) - np.asarray(
        encoder(FEATURES)
    )
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.3, rtol=1e-3)


def test_models_that_agree_stay_where_they_are():
    same = classifier(0)
    explore = LatentExploration(
        encoder, decoder, 0.0, teacher=same, student=lambda x: same(x)
    )
    np.testing.assert_allclose(explore(FEATURES), FEATURES, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "jit_compile"),
    covering(["random", "gradient"], [False, True], strength=1),
)
def test_a_distiller_trains_on_what_is_explored(kind, jit_compile):
    teacher, student = classifier(0), classifier(1)
    generator = [
        keras.Sequential([keras.Input([given]), keras.layers.Dense(made)])
        for given, made in ((4, 2), (2, 4))
    ]
    models = {"teacher": teacher, "student": student}
    explore = LatentExploration(
        *generator, **(models if kind == "gradient" else {}), seed=1
    )
    before = [model.get_weights() for model in generator]
    distiller = SparseToDenseDistiller(
        teacher, student, input_perturbation=explore
    )
    distiller.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=jit_compile)
    weights = [w.copy() for w in student.get_weights()]
    logs = distiller.fit(FEATURES, LABELS, epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert any(
        (one != other).any()
        for one, other in zip(weights, student.get_weights(), strict=True)
    )
    # The generator is neither trained nor a part of the distiller.
    for model, given in zip(generator, before, strict=True):
        for one, other in zip(model.get_weights(), given, strict=True):
            np.testing.assert_array_equal(one, other)
    held = {id(v) for v in distiller.variables}
    assert not held & {id(v) for m in generator for v in m.variables}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_scale": -1.0}, "`noise_scale` must not be negative"),
        ({"num_steps": 0}, "`num_steps` must be a positive integer"),
        ({"step_size": 0.0}, "`step_size` must be positive"),
        ({"teacher": encoder}, "Received: teacher alone, no student"),
        ({"student": encoder}, "Received: student alone, no teacher"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LatentExploration(encoder, decoder, **options)
