"""A student learns what its teacher says, and nothing else is kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import TokenDistillation
from keras_moe.models import SwitchTransformer
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import INPUTS
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import TARGET
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled
from tests.distillation.distiller_case import divergence
from tests.distillation.distiller_case import evaluate
from tests.distillation.distiller_case import pair
from tests.distillation.distiller_case import transformer


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.large)]
)
def test_student_comes_nearer_to_its_teacher(jit_compile):
    teacher, student = classifier(0), classifier(1)
    distiller = SparseToDenseDistiller(
        teacher,
        student,
        [TokenDistillation(), HiddenStateDistillation("hidden", "hidden")],
        student_loss_weight=0.0,
    )
    distiller.compile(
        keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile
    )
    before = [np.array(weight) for weight in teacher.weights]

    batches = tf.data.Dataset.from_tensors((FEATURES, np.eye(3)[LABELS]))
    first = distiller.fit(batches, verbose=0).history["loss"]
    distiller.fit(batches.repeat(38), verbose=0)
    last = distiller.fit(batches, verbose=0).history["loss"]

    assert last[0] < 0.1 * first[0]
    for weight, value in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


# By default of a classifier, in `example_weights_test`.
@pytest.mark.large
@pytest.mark.parametrize("blocks", [1, 2])
def test_xla_makes_the_same_update(blocks):
    updated = []
    depth = {"num_encoder_layers": blocks, "num_decoder_layers": blocks}
    for jit_compile in (False, True):
        teacher = transformer(0, moe_every=blocks, **depth)
        student = transformer(1, num_experts=0, **depth)
        distiller = compiled(
            SparseToDenseDistiller(teacher, student),
            jit_compile=jit_compile,
            run_eagerly=False,
        )
        distiller.train_on_batch(INPUTS, TARGET)
        updated.append([np.array(weight) for weight in student.weights])

    for plain, by_xla in zip(*updated, strict=True):
        np.testing.assert_allclose(plain, by_xla, atol=1e-5)


def test_student_runs_once_and_evaluates_without_dropout():
    teacher, student = classifier(0), classifier(1, dropout=0.5)
    distiller = compiled(
        SparseToDenseDistiller(
            teacher, student, HiddenStateDistillation("hidden", "hidden")
        ),
        loss="mse",
    )
    calls = student.get_layer("hidden").calls
    calls.clear()

    distiller.train_on_batch(FEATURES, np.eye(3)[LABELS])
    assert calls == [True]

    targets = np.eye(3)[LABELS]
    losses = {evaluate(distiller, FEATURES, targets)["loss"] for _ in range(3)}
    assert len(losses) == 1
    assert calls[1:] == [False] * 3


def test_given_outputs_are_used():
    teacher, student = classifier(0), classifier(1)
    distiller = compiled(SparseToDenseDistiller(teacher, student), loss="mse")
    outputs = distiller(FEATURES)
    calls = student.get_layer("hidden").calls
    calls.clear()

    loss = distiller.compute_loss(FEATURES, np.eye(3)[LABELS], outputs)

    assert calls == []
    logits = np.array(outputs["logits"])
    expected = np.square(logits - np.eye(3)[LABELS]).mean()
    soft = divergence(np.array(teacher(FEATURES)), logits).mean()
    assert float(loss) == pytest.approx(0.75 * expected + 0.25 * soft, rel=1e-5)


@pytest.mark.parametrize(
    "policies",
    [
        ("float32", "mixed_bfloat16"),
        pytest.param(("mixed_bfloat16", "float32"), marks=pytest.mark.large),
    ],
)
def test_policies_may_differ(policies):
    teacher, student = (
        transformer(seed, num_experts=experts, dtype=policy)
        for seed, experts, policy in zip((0, 1), (4, 0), policies, strict=True)
    )
    distiller = compiled(SparseToDenseDistiller(teacher, student))

    found = evaluate(distiller, INPUTS, TARGET)

    given, made = (np.array(model(INPUTS)) for model in (teacher, student))
    real = TARGET != 0
    soft = divergence(given, made)[real].mean()
    assert found["distillation_loss"] == pytest.approx(soft, rel=2e-2)
    assert np.isfinite(distiller.train_on_batch(INPUTS, TARGET)).all()


def test_half_precision_scales_its_losses():
    teacher, student = (
        transformer(seed, num_experts=experts, dtype="mixed_float16")
        for seed, experts in ((0, 4), (1, 0))
    )
    distiller = SparseToDenseDistiller(teacher, student)

    distiller.compile("sgd")

    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)


def test_projections_are_trained():
    teacher, student = pair()
    loss = HiddenStateDistillation(2, 1)
    distiller = compiled(SparseToDenseDistiller(teacher, student, loss))
    before = np.array(loss.projection_layer.kernel)

    distiller.train_on_batch(INPUTS, TARGET)

    assert not np.allclose(before, loss.projection_layer.kernel)
    paths = {weight.path for weight in student.weights}
    extra = [w for w in distiller.trainable_weights if w.path not in paths]
    assert [tuple(weight.shape) for weight in extra] == [(16, 16)]


def test_metrics_see_the_student(run_eagerly):
    distiller = SparseToDenseDistiller(classifier(0), classifier(1))
    distiller.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
    )
    made = np.array(distiller.student(FEATURES)).argmax(axis=-1)

    found = evaluate(distiller, FEATURES, LABELS)

    assert found["accuracy"] == pytest.approx((made == LABELS).mean())
    np.testing.assert_allclose(
        distiller.predict(FEATURES, verbose=0),
        distiller.student(FEATURES),
        atol=1e-6,
    )


def test_only_the_student_is_kept(tmp_path):
    teacher, student = pair()
    distiller = compiled(SparseToDenseDistiller(teacher, student))
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "kept.keras")
    distiller.fit(INPUTS, TARGET, callbacks=[checkpoint], verbose=0)
    expected = np.array(student(INPUTS))

    loaded = keras.saving.load_model(tmp_path / "kept.keras")
    distiller.save(tmp_path / "saved.keras")
    saved = keras.saving.load_model(tmp_path / "saved.keras")

    assert type(loaded) is SwitchTransformer
    assert loaded.count_params() == student.count_params()
    np.testing.assert_allclose(loaded(INPUTS), expected, atol=1e-6)
    np.testing.assert_allclose(saved(INPUTS), expected, atol=1e-6)
    taught = {id(weight) for weight in teacher.weights}
    assert not taught & {id(weight) for weight in distiller.weights}


def test_export_is_the_students(tmp_path):
    teacher, student = classifier(0), classifier(1)
    distiller = compiled(SparseToDenseDistiller(teacher, student), loss="mse")

    distiller.export(tmp_path / "exported", verbose=False)

    loaded = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(
        loaded.serve(FEATURES), student(FEATURES), atol=1e-6
    )


def test_training_goes_on_from_saved_weights(tmp_path, run_eagerly):
    path = tmp_path / "state.weights.h5"

    def make(seed):
        distiller = SparseToDenseDistiller(
            classifier(0),
            classifier(seed),
            HiddenStateDistillation("hidden", "hidden"),
        )
        distiller.compile(
            keras.optimizers.Adam(0.01), "mse", run_eagerly=run_eagerly
        )
        distiller.optimizer.build(distiller.trainable_variables)
        return distiller

    straight, resumed = make(1), make(2)
    targets = np.eye(3)[LABELS]
    straight.fit(FEATURES, targets, verbose=0)
    straight.save_weights(path)
    straight.fit(FEATURES, targets, shuffle=False, verbose=0)
    resumed.load_weights(path)
    resumed.fit(FEATURES, targets, shuffle=False, verbose=0)

    for one, other in zip(
        straight.trainable_weights, resumed.trainable_weights, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_distiller_has_no_config(tmp_path):
    distiller = compiled(SparseToDenseDistiller(*pair()))

    with pytest.raises(NotImplementedError, match="Save the student"):
        keras.saving.save_model(distiller, tmp_path / "whole.keras")
