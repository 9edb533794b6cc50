"""A student learns what its teacher says, and nothing else is kept."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import TokenDistillation
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(6, 4)).astype("float32")
LABELS = RNG.integers(0, 3, size=6)
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0], "float32")
SOURCE = np.array([[5, 6, 7, 1, 0], [8, 9, 1, 0, 0]])
TARGET = np.array([[4, 5, 6, 1], [7, 1, 0, 0]])
INPUTS = {
    "encoder_token_ids": SOURCE,
    "decoder_token_ids": np.array([[0, 4, 5, 6], [0, 7, 1, 0]]),
}


class Counted(keras.layers.Dense):
    """A layer that knows how often it was called, and with what."""

    calls: list

    def call(self, inputs, training=None):
        self.calls.append(training)
        return super().call(inputs)


def classifier(seed, units=3, dropout=0.0, **kwargs):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    x = Counted(5, activation="tanh", name="hidden", **kwargs)
    x.calls = []
    outputs = keras.layers.Dense(units, name="logits", **kwargs)(
        keras.layers.Dropout(dropout)(x(inputs))
    )
    return keras.Model(inputs, outputs)


def transformer(seed, **sizes):
    keras.utils.set_random_seed(seed)
    return SwitchTransformer.from_preset(
        "switch_tiny",
        **{"dropout_rate": 0.0, "expert_dropout_rate": 0.0, **sizes},
    )


def pair(**sizes):
    return transformer(0), transformer(1, num_experts=0, **sizes)


def compiled(distiller, **kwargs):
    """Compiles without tracing, which takes longer than these small sums."""
    distiller.compile(
        keras.optimizers.SGD(0.1), **{"run_eagerly": True, **kwargs}
    )
    return distiller


def crossentropy(labels, logits):
    log_p = scipy.special.log_softmax(logits.astype("float64"), axis=-1)
    return -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]


def divergence(teacher, student, temperature=1.0):
    p, q = (
        scipy.special.softmax(x.astype("float64") / temperature, axis=-1)
        for x in (teacher, student)
    )
    return temperature**2 * scipy.special.rel_entr(p, q).sum(axis=-1)


def evaluate(distiller, x, y=None, sample_weight=None):
    return distiller.evaluate(
        x, y, sample_weight=sample_weight, return_dict=True, verbose=0
    )


# === What is minimised ===


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


@pytest.mark.parametrize("shape", ["batch", "tokens"])
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


# === How it is minimised ===


def test_student_comes_nearer_to_its_teacher():
    teacher, student = classifier(0), classifier(1)
    distiller = SparseToDenseDistiller(
        teacher,
        student,
        [TokenDistillation(), HiddenStateDistillation("hidden", "hidden")],
        student_loss_weight=0.0,
    )
    distiller.compile(keras.optimizers.Adam(0.05), "mse")
    before = [np.array(weight) for weight in teacher.weights]

    targets = np.eye(3)[LABELS]
    history = distiller.fit(FEATURES, targets, epochs=40, verbose=0).history

    assert history["loss"][-1] < 0.1 * history["loss"][0]
    for weight, value in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_xla_makes_the_same_update():
    updated = []
    for jit_compile in (False, True):
        teacher, student = pair()
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
    expected = np.square(np.array(outputs) - np.eye(3)[LABELS]).mean()
    soft = divergence(np.array(teacher(FEATURES)), np.array(outputs)).mean()
    assert float(loss) == pytest.approx(0.75 * expected + 0.25 * soft, rel=1e-5)


@pytest.mark.parametrize(
    "policies",
    [("mixed_bfloat16", "float32"), ("float32", "mixed_bfloat16")],
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


def test_metrics_see_the_student():
    distiller = SparseToDenseDistiller(classifier(0), classifier(1))
    distiller.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    made = np.array(distiller.student(FEATURES)).argmax(axis=-1)

    found = evaluate(distiller, FEATURES, LABELS)

    assert found["accuracy"] == pytest.approx((made == LABELS).mean())
    np.testing.assert_allclose(
        distiller.predict(FEATURES, verbose=0),
        distiller.student(FEATURES),
        atol=1e-6,
    )


# === What is kept ===


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


def test_training_goes_on_from_saved_weights(tmp_path):
    path = tmp_path / "state.weights.h5"

    def make(seed):
        distiller = SparseToDenseDistiller(
            classifier(0),
            classifier(seed),
            HiddenStateDistillation("hidden", "hidden"),
        )
        distiller.compile(keras.optimizers.Adam(0.01), "mse")
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


# === Bad input ===


def broken(model):
    for weight in model.weights:
        if weight.path.endswith("target_embedding/embeddings"):
            weight.assign(np.full(weight.shape, np.nan))
    return model


@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_teacher_of_nans_is_refused_before_training(as_dataset):
    teacher, student = pair()
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
def test_missing_layers_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        SparseToDenseDistiller(*pair(), HiddenStateDistillation(*layers))


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
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseToDenseDistiller(*pair(), **arguments)


def test_a_model_does_not_teach_itself():
    student = classifier(0)

    with pytest.raises(ValueError, match="must be two models"):
        SparseToDenseDistiller(student, student)
    with pytest.raises(ValueError, match="must be a `keras.Model`"):
        SparseToDenseDistiller(None, student)


def test_a_loss_is_needed_where_there_is_no_default():
    distiller = SparseToDenseDistiller(classifier(0), classifier(1))

    with pytest.raises(ValueError, match="`loss` must be given"):
        distiller.compile("sgd")


def test_a_loss_for_the_whole_batch_cannot_be_weighted():
    def loss(labels, logits):
        return token_crossentropy(labels, logits)

    distiller = compiled(SparseToDenseDistiller(*pair()), loss=loss)

    with pytest.raises(ValueError, match="cannot weigh examples"):
        evaluate(distiller, INPUTS, TARGET, np.ones(2))
