"""Teacher and student read the same noise, in training alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import Distiller
from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import TokenDistillation
from keras_moe.training import Checkpoints
from keras_moe.training import Trainer
from tests.covering import covering
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import TARGET
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair
from tests.distillation.distiller_case import transformer

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STRUCTURES = {
    "tensor": lambda a, b: a,
    "dictionary": lambda a, b: {"a": a, "b": b},
    "list": lambda a, b: [a, b],
}
PARTS = (FEATURES, FEATURES[:, ::-1].copy())


def merging(seed, structure):
    """Returns a classifier of the inputs' sum."""
    keras.utils.set_random_seed(seed)
    inputs = STRUCTURES[structure](
        keras.Input((4,), name="a"), keras.Input((4,), name="b")
    )
    x = sum(keras.tree.flatten(inputs))
    x = keras.layers.Dense(5, activation="tanh")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def distill(perturbation, structure="tensor", **kwargs):
    distiller = Distiller(
        merging(0, structure),
        merging(1, structure),
        TokenDistillation(),
        input_perturbation=perturbation,
    )
    return compiled(distiller, **{"loss": LOSS, **kwargs})


def add_one(inputs):
    return keras.tree.map_structure(lambda leaf: leaf + 1.0, inputs)


@pytest.mark.parametrize(
    ("structure", "eager"),
    [
        ("tensor", False),
        ("dictionary", True),
        ("list", True),
        *(
            pytest.param(*each, marks=pytest.mark.large)
            for each in (
                ("tensor", True),
                ("dictionary", False),
                ("list", False),
            )
        ),
    ],
)
def test_identity_changes_nothing(structure, eager):
    x = STRUCTURES[structure](*PARTS)
    trained = []
    for perturbation in (None, lambda inputs: inputs):
        distiller = distill(perturbation, structure, run_eagerly=eager)
        history = distiller.fit(
            x, LABELS, batch_size=4, epochs=2, shuffle=False, verbose=0
        )
        trained.append((history.history, distiller.student.get_weights()))

    (logs, weights), (perturbed_logs, perturbed_weights) = trained
    assert perturbed_logs == logs
    for one, other in zip(weights, perturbed_weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_teacher_and_student_read_the_perturbed_inputs(structure):
    distiller = distill(add_one, structure)
    x = STRUCTURES[structure](*PARTS)
    expected = evaluate(distiller, add_one(x), LABELS)

    found = distiller.train_on_batch(x, LABELS, return_dict=True)

    assert found["student_loss"] == pytest.approx(
        expected["student_loss"], rel=1e-6
    )
    assert found["distillation_loss"] == pytest.approx(
        expected["distillation_loss"], rel=1e-6
    )


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_and_a_tuple_are_the_same_inputs(kind, run_eagerly):
    def double(inputs):
        return kind(2.0 * part for part in inputs)

    distiller = distill(double, "list", run_eagerly=run_eagerly)
    doubled = [2.0 * part for part in PARTS]

    # Keras hands a list on as a tuple in `fit`, as a list in `train_on_batch`.
    expected = evaluate(distiller, doubled, LABELS)["loss"]
    fitted = distiller.fit(list(PARTS), LABELS, verbose=0).history["loss"]
    assert fitted == [pytest.approx(expected, rel=1e-6)]
    expected = evaluate(distiller, doubled, LABELS)["loss"]
    trained = distiller.train_on_batch(list(PARTS), LABELS, return_dict=True)
    assert trained["loss"] == pytest.approx(expected, rel=1e-6)


def reversed_source(inputs):
    source = inputs["encoder_token_ids"]
    return {**inputs, "encoder_token_ids": source[:, ::-1]}


@pytest.mark.parametrize("kind", [SparseToDenseDistiller, EarlyExitDistiller])
def test_every_distiller_takes_it(kind):
    distiller = compiled(kind(*pair(), input_perturbation=reversed_source))
    plain = evaluate(distiller, INPUTS, TARGET)
    expected = evaluate(distiller, reversed_source(INPUTS), TARGET)

    found = distiller.train_on_batch(INPUTS, TARGET, return_dict=True)

    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["loss"] != pytest.approx(plain["loss"], rel=1e-4)


def test_only_training_is_perturbed():
    calls = []

    def refuse(inputs):
        calls.append(inputs)
        raise AssertionError("perturbed")

    distiller = distill(refuse)
    plain = distill(None)

    assert evaluate(distiller, FEATURES, LABELS) == evaluate(
        plain, FEATURES, LABELS
    )
    np.testing.assert_array_equal(
        distiller.predict(FEATURES, verbose=0),
        plain.predict(FEATURES, verbose=0),
    )
    distiller.test_on_batch(FEATURES, LABELS)
    distiller(FEATURES, training=True)
    assert calls == []
    with pytest.raises(AssertionError, match="perturbed"):
        distiller.train_on_batch(FEATURES, LABELS)


# By default XLA in the next test but one.
@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.large)]
)
def test_seeds_advance_once_a_step(jit_compile):
    seed = keras.random.SeedGenerator(7)

    def noise(inputs):
        return inputs + keras.random.normal(ops.shape(inputs), seed=seed)

    distiller = distill(noise, run_eagerly=False, jit_compile=jit_compile)
    assert distiller.jit_compile == jit_compile
    plain = evaluate(distiller, FEATURES, LABELS)["loss"]
    assert np.array(seed.state)[1] == 0

    history = distiller.fit(
        FEATURES, LABELS, batch_size=2, epochs=2, verbose=0
    ).history

    assert np.array(seed.state)[1] == 6
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][0] != pytest.approx(plain, rel=1e-3)


def test_the_training_loop_of_the_library_perturbs_too(tmp_path):
    layer = keras.layers.GaussianNoise(1.0, seed=3)
    distiller = distill(layer, run_eagerly=False, jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((FEATURES, LABELS)).batch(2)

    Trainer(distiller, Checkpoints(tmp_path, every=3)).fit(data, verbose=0)

    drawn = np.array(layer.seed_generator.state)
    assert drawn[1] == 3
    again = keras.layers.GaussianNoise(1.0, seed=4)
    resumed = distill(again, run_eagerly=False, jit_compile=False)
    Trainer(resumed, Checkpoints(tmp_path, every=3)).fit(data, verbose=0)
    np.testing.assert_array_equal(again.seed_generator.state, drawn)


def test_xla_makes_the_same_update():
    updated = []
    for jit_compile in (False, True):
        distiller = distill(add_one, run_eagerly=False, jit_compile=jit_compile)
        distiller.train_on_batch(FEATURES, LABELS)
        updated.append(distiller.student.get_weights())

    for plain, by_xla in zip(*updated, strict=True):
        np.testing.assert_allclose(plain, by_xla, atol=1e-6)


def test_a_layer_is_called_as_in_training():
    layer = keras.layers.GaussianNoise(1.0, seed=3)
    distiller = distill(layer)
    plain = evaluate(distiller, FEATURES, LABELS)["loss"]

    found = distiller.train_on_batch(FEATURES, LABELS, return_dict=True)

    assert found["loss"] != pytest.approx(plain, rel=1e-3)
    # Its random state goes into checkpoints.
    state = layer.seed_generator.state
    assert np.array(state)[1] == 1
    assert id(state) in {id(each) for each in distiller.variables}


def test_the_weights_of_a_generator_are_no_part_of_the_training():
    layer = keras.layers.Dense(4)
    layer.build((None, 4))
    distiller = distill(layer)
    before = layer.get_weights()

    distiller.train_on_batch(FEATURES, LABELS)

    held = {id(variable) for variable in distiller.variables}
    assert not held & {id(weight) for weight in layer.weights}
    for weight, value in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_reserved_names_are_not_perturbed():
    shown = []

    def perturb(inputs):
        shown.append(sorted(inputs))
        return add_one(inputs)

    distiller = distill(perturb, "dictionary")
    x = dict(zip("ab", PARTS, strict=True))
    trusted = {"labelled": np.arange(6) % 2 == 0}
    expected = evaluate(distiller, {**add_one(x), **trusted}, LABELS)

    found = distiller.train_on_batch({**x, **trusted}, LABELS, return_dict=True)

    assert shown == [["a", "b"]]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def in_place(inputs):
    del inputs["b"]
    return inputs


@pytest.mark.parametrize(
    ("inputs", "eager"),
    covering(
        [
            ("tensor", lambda x: x[:, :3], r"float32 \(6, 3\)"),
            ("tensor", lambda x: x[:, None], r"float32 \(6, 1, 4\)"),
            ("tensor", lambda x: ops.cast(x, "float16"), r"float16 \(6, 4\)"),
            ("tensor", lambda x: [x], r"\('float32 \(6, 4\)',\)"),
            ("tensor", lambda x: None, "None"),
            (
                "dictionary",
                lambda x: {"a": x["a"]},
                r"\{'a': 'float32 \(6, 4\)'\}",
            ),
            ("dictionary", in_place, r"\{'a': 'float32 \(6, 4\)'\}"),
            ("dictionary", lambda x: x["a"], r"float32 \(6, 4\)"),
        ],
        [False, True],
        strength=1,
    ),
)
def test_another_kind_of_inputs_is_refused(inputs, eager):
    structure, perturbation, received = inputs
    distiller = distill(perturbation, structure, run_eagerly=eager)
    before = distiller.student.get_weights()
    x = STRUCTURES[structure](*PARTS)

    with pytest.raises(
        ValueError, match=f"structure, shapes and dtypes.*Received: {received}"
    ):
        distiller.train_on_batch(x, LABELS)

    for weight, value in zip(
        distiller.student.get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(weight, value)


def test_cached_logits_belong_to_other_inputs():
    student = transformer(1, num_experts=0)
    teacher = CachedTeacher(student.config.output_size)

    with pytest.raises(ValueError, match="needs a teacher that reads"):
        SparseToDenseDistiller(
            teacher, student, input_perturbation=reversed_source
        )
