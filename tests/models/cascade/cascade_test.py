"""A cascade asks the next stage about those rows alone that are deferred."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import DeferralRule
from keras_moe.calibration import calibrate_cascade
from keras_moe.models import Cascade
from keras_moe.weights import fingerprint

_CLASSES = 5


class _Counting(keras.layers.Layer):
    """Notes how many rows come along, in the graph that is run."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen: list[int] = []

    def call(self, x):
        def note(x):
            self.seen.append(len(x))
            return x

        y = tf.numpy_function(note, [x], x.dtype)
        y.set_shape(x.shape)
        return y

    def compute_output_shape(self, input_shape):
        return input_shape


def _classifier(seed, width=8, classes=_CLASSES, counting=None):
    inputs = keras.Input([4])
    x = counting(inputs) if counting else inputs
    for units, activation in ((width, "tanh"), (classes, "softmax")):
        x = keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            bias_initializer=keras.initializers.RandomNormal(seed=seed),
        )(x)
    return keras.Model(inputs, x)


def _rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype("float32")


def _reference(stages, rules, x):
    """Runs every stage on every row."""
    outputs = [stage(x, training=False).numpy() for stage in stages]
    answers, numbers = outputs[0].copy(), np.zeros(len(x), int)
    for row in range(len(x)):
        for number, rule in enumerate(rules):
            p = outputs[number][row]
            if np.isfinite(p).all() and 1.0 - p.max() <= rule.threshold:
                break
            answers[row], numbers[row] = outputs[number + 1][row], number + 1
    return answers, numbers


@pytest.fixture(scope="module")
def stages():
    return [_classifier(1), _classifier(2, 16), _classifier(3, 32)]


@pytest.fixture(scope="module")
def rules(stages):
    medians = [
        np.median(DeferralRule().scores(stage(_rows(200))))
        for stage in stages[:2]
    ]
    return [DeferralRule(threshold=float(median)) for median in medians]


@pytest.mark.parametrize(
    ("n", "jit_compile"),
    [
        (1, False),
        (20, True),
        *(
            pytest.param(*each, marks=pytest.mark.large)
            for each in ((1, True), (7, False), (7, True), (20, False))
        ),
    ],
)
def test_equals_running_every_stage_on_every_row(stages, rules, jit_compile, n):
    cascade = Cascade(stages, rules, batch_sizes=(2, 4))
    x = _rows(n, seed=n)
    run = tf.function(cascade, jit_compile=jit_compile)
    answer = run(tf.constant(x))
    answers, numbers = _reference(stages, rules, x)
    np.testing.assert_array_equal(answer["stage"], numbers)
    np.testing.assert_allclose(answer["outputs"], answers, atol=1e-6)
    if n == 20:
        assert len(set(numbers)) == 3


def test_a_row_does_not_depend_on_its_batch(stages, rules):
    cascade = Cascade(stages, rules)
    x = _rows(9)
    whole = cascade(x)
    for row in range(9):
        alone = cascade(x[row : row + 1])
        np.testing.assert_array_equal(
            alone["stage"], whole["stage"][row : row + 1]
        )
        np.testing.assert_allclose(
            alone["outputs"][0], whole["outputs"][row], atol=1e-6
        )


def test_the_large_stage_sees_deferred_rows_alone():
    counting = _Counting()
    small, large = _classifier(1), _classifier(2, counting=counting)
    x = _rows(10)
    scores = np.sort(DeferralRule().scores(small(x)).numpy())
    for deferred in (0, 1, 4, 10):
        between = [-1.0, *scores, 2.0]
        threshold = np.mean(between[10 - deferred : 12 - deferred])
        cascade = Cascade([small, large], DeferralRule(threshold=threshold))
        counting.seen.clear()
        answer = tf.function(cascade)(x)
        assert int(tf.reduce_sum(answer["stage"])) == deferred
        # Nobody is asked about no rows, not even with an empty batch.
        assert counting.seen == ([deferred] if deferred else [])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_empty_batch_and_rows_that_are_not_finite(stages, jit_compile):
    cascade = Cascade(stages[:2], DeferralRule(threshold=0.99))
    if not jit_compile:
        assert cascade(_rows(0))["outputs"].shape == (0, _CLASSES)
    x = _rows(4)
    clean = cascade(x)
    x[2, 1] = np.nan
    run = tf.function(cascade, jit_compile=jit_compile)
    answer = run(tf.constant(x))
    assert answer["stage"].numpy().tolist() == [0, 0, 1, 0]
    others = [0, 1, 3]
    np.testing.assert_allclose(
        tf.gather(answer["outputs"], others),
        tf.gather(clean["outputs"], others),
        atol=1e-6,
    )


def test_saves_and_exports(stages, rules, tmp_path):
    cascade = Cascade(stages, rules, batch_sizes=(2, 4))
    x = _rows(6)
    before = cascade(x)
    cascade.save(tmp_path / "cascade.keras")
    loaded = keras.saving.load_model(tmp_path / "cascade.keras")
    assert loaded.batch_sizes == (2, 4)
    assert fingerprint(loaded) == fingerprint(cascade)
    after = loaded(x)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    loaded.export(
        tmp_path / "1",
        input_signature=[keras.InputSpec("float32", (None, 4))],
        verbose=False,
    )
    version = tf.saved_model.load(tmp_path / "1")
    served = version.serve(x)
    for name in before:
        np.testing.assert_allclose(before[name], served[name], atol=1e-6)


def test_works_in_a_functional_model_and_in_half_precision(stages, rules):
    inputs = keras.Input([4])
    cascade = Cascade(stages, rules)
    model = keras.Model(inputs, cascade(inputs))
    x = _rows(6)
    np.testing.assert_array_equal(model(x)["outputs"], cascade(x)["outputs"])
    assert model.predict(x, verbose=0)["stage"].shape == (6,)


def test_is_not_trained(stages, rules):
    cascade = Cascade(stages, rules)
    cascade.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(NotImplementedError, match="train each of its stages"):
        cascade.fit(_rows(4), _rows(4), verbose=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, r: ([s[0]], []), "two Keras models"),
        (lambda s, r: (s, r[:1]), "one for each stage but the last, 2"),
        (lambda s, r: (s[:2], DeferralRule()), "with a threshold"),
        (lambda s, r: (s[:2], "confidence"), "with a threshold|one for each"),
        (
            lambda s, r: ([s[0], _classifier(2, classes=7)], r[:1]),
            "outputs of one shape",
        ),
        (
            lambda s, r: (
                s[:2],
                DeferralRule(threshold=0.5, stages=("1:a", "1:b")),
            ),
            "fitted on another first stage",
        ),
    ],
)
def test_refuses_what_does_not_go_together(stages, rules, change, message):
    with pytest.raises(ValueError, match=message):
        Cascade(*change(stages, rules))


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.large)]
)
def test_hands_masks_to_later_stages(jit_compile):
    inputs = keras.Input([3, 2])
    mean = keras.layers.GlobalAveragePooling1D()(inputs)
    stage = keras.Model(inputs, keras.layers.Softmax()(mean))
    ask = Cascade([stage, stage], DeferralRule(threshold=-1.0))
    outer = keras.Input([3, 2])
    masked = keras.layers.Masking()(outer)
    model = keras.Model(outer, ask(masked))
    alone = keras.Model(outer, stage(masked))
    x = tf.constant([[[1.0, 0.0], [5.0, 1.0], [0.0, 0.0]]])
    answer = tf.function(model, jit_compile=jit_compile)(x)
    assert answer["stage"].numpy().tolist() == [1]
    np.testing.assert_allclose(answer["outputs"], alone(x), atol=1e-6)


def test_leaves_the_casting_of_inputs_to_each_stage(stages):
    cascade = Cascade(
        stages[:2], DeferralRule(threshold=0.999), dtype="mixed_float16"
    )
    x = 1e5 * _rows(4)  # more than half precision holds
    np.testing.assert_array_equal(
        cascade(x)["outputs"], stages[0](x, training=False)
    )


def test_exports_without_a_signature(stages, rules, tmp_path):
    cascade = Cascade(stages, rules)
    x = _rows(3)
    expected = cascade(x)
    cascade.export(tmp_path / "1", verbose=False)
    version = tf.saved_model.load(tmp_path / "1")
    np.testing.assert_allclose(
        version.serve(x)["outputs"], expected["outputs"], atol=1e-6
    )


def test_checks_a_certificate_of_either_of_two_rules(stages):
    losses = np.zeros(500)
    rules = [DeferralRule(threshold=0.7), DeferralRule(threshold=0.3)]
    cascade = Cascade(stages, rules)
    for stage, rule in enumerate(rules):
        granted = calibrate_cascade(
            rule,
            losses,
            losses,
            losses,
            [rule.threshold],
            tolerance=0.1,
            stage=stage,
        )
        cascade.check_certificate(granted)
        with pytest.raises(ValueError, match="another threshold"):
            Cascade(stages, rules[::-1]).check_certificate(granted)


def test_checks_a_certificate():
    small, large = _classifier(1), _classifier(2)
    rule = DeferralRule(stages=(fingerprint(small), fingerprint(large)))
    losses = np.zeros(500)
    certificate = calibrate_cascade(
        rule, np.linspace(0, 1, 500), losses, losses, [0.2, 0.4], tolerance=0.1
    )
    cascade = Cascade([small, large], rule.with_threshold(certificate))
    cascade.check_certificate(certificate)
    with pytest.raises(ValueError, match="for another threshold"):
        Cascade([small, large], rule.with_threshold(0.3)).check_certificate(
            certificate
        )
    strange = calibrate_cascade(
        DeferralRule(stages=("1:a", "1:b")),
        losses,
        losses,
        losses,
        [certificate.threshold],
        tolerance=0.1,
    )
    with pytest.raises(ValueError, match="not one for this rule"):
        cascade.check_certificate(strange)
    other = calibrate_cascade(
        DeferralRule("logits"), losses, losses, losses, [0.2], tolerance=0.1
    )
    with pytest.raises(ValueError, match="not one for a rule"):
        cascade.check_certificate(other)
    large.weights[0].assign_add(large.weights[0])
    with pytest.raises(ValueError, match="another second stage"):
        cascade.check_certificate(certificate)
