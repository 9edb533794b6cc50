import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.distillation import Distiller
from keras_moe.distillation import TokenDistillation
from keras_moe.training import AdversarialTrainer
from tests.training.robust_case import LOSS
from tests.training.robust_case import X
from tests.training.robust_case import Y
from tests.training.robust_case import fit
from tests.training.robust_case import make


def compiled(model=None, radius=0.3, **options):
    trainer = AdversarialTrainer(model or make(), radius, seed=0, **options)
    trainer.compile("sgd", LOSS, run_eagerly=True)
    return trainer


def test_alpha_0_equals_plain_training():
    plain, model = make(regularizer="l2"), make(regularizer="l2")
    one = fit(plain, run_eagerly=True)
    trainer = AdversarialTrainer(model, 0.3, alpha=0.0)
    other = fit(trainer, run_eagerly=True)
    assert one == other
    for a, b in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_the_attack_stays_near_and_raises_the_loss_of_each(norm):
    trainer = compiled(norm=norm, num_steps=4)
    attacked = np.asarray(trainer.attack(X, Y))
    change = attacked - X
    order = np.inf if norm == "inf" else 2
    sizes = np.linalg.norm(change, order, axis=-1)
    assert (sizes <= 0.3 * (1 + 1e-5)).all()
    losses = [
        keras.losses.sparse_categorical_crossentropy(
            Y, trainer.model(x), from_logits=True
        )
        for x in (X, attacked)
    ]
    assert (np.asarray(losses[1]) > np.asarray(losses[0])).all()


def test_of_a_linear_model_the_attack_is_known():
    """The sign of the gradient at every step, whatever the start."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    trainer = AdversarialTrainer(model, 0.1, num_steps=3)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    trainer.compile("sgd", loss, run_eagerly=True)
    y = (np.arange(16) % 2)[:, None]
    sign = np.sign(model.layers[0].kernel.numpy())[:, 0] * (1 - 2 * y)
    np.testing.assert_allclose(trainer.attack(X, y), X + 0.1 * sign, atol=1e-6)


def test_bounds_hold():
    x = np.clip(X, 0, 1)
    attacked = compiled(bounds=(0.0, 1.0)).attack(x, Y)
    assert 0 <= np.min(attacked) and np.max(attacked) <= 1


def test_numbers_out_of_bounds_stay_near():
    x = np.where(X > 1, 5.0, np.where(X < -1, -5.0, X)).astype("float32")
    attacked = np.asarray(compiled(bounds=(0.0, 1.0)).attack(x, Y))
    inside = (x >= 0) & (x <= 1)
    assert (np.abs(attacked - x) <= 0.3 + 1e-5).all()
    assert (attacked[x == 5] <= 5).all() and (attacked[x == -5] >= -5).all()
    assert (attacked[inside] >= 0).all() and (attacked[inside] <= 1).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_step_has_length_1_at_any_scale_of_the_gradient(scale):
    """Squares of small gradients would be 0, those of large ones infinite."""
    trainer = compiled(norm="2")
    gradient = ops.convert_to_tensor((scale * X).astype("float32"))
    sizes = np.linalg.norm(trainer._direction(gradient), axis=-1)
    np.testing.assert_allclose(sizes, 1, rtol=1e-5)


@pytest.mark.parametrize("mask_value", [0.0, -1.0])
@pytest.mark.parametrize("norm", ["inf", "2"])
def test_padding_stays(norm, mask_value):
    inputs = keras.Input((3, 2))
    x = keras.layers.Masking(mask_value)(inputs)
    x = keras.layers.SimpleRNN(4)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    x = X.reshape(-1, 3, 2).copy()
    x[::2, 2] = mask_value
    x[1::2, 2, 0] = mask_value  # a row that is not padding
    trainer = compiled(keras.Sequential([model]), norm=norm, num_steps=2)
    moved = np.asarray(trainer.attack(x, Y)) != x
    assert not moved[::2, 2].any()
    assert moved[1::2, 2].any(axis=-1).all() and moved[:, :2].all()


def test_a_gradient_of_zero_is_no_nan():
    model = make()
    model.get_layer("head").kernel.assign(np.zeros((8, 3)))
    assert np.isfinite(compiled(model, norm="2").attack(X, Y)).all()


def test_it_learns_to_withstand_and_evaluates_inputs_as_they_are():
    model = make()
    fit(model, epochs=1, repeat=30)
    trainer = AdversarialTrainer(model, 0.3, num_steps=1, alpha=0.9, seed=1)
    trainer.compile(keras.optimizers.Adam(0.02), LOSS, jit_compile=True)
    before = LOSS(Y, model(trainer.attack(X, Y)))
    batches = tf.data.Dataset.from_tensors((X, Y)).repeat(30)
    trainer.fit(batches, verbose=0)
    assert LOSS(Y, model(trainer.attack(X, Y))) < before
    trainer.compile("sgd", LOSS, run_eagerly=True)
    plain = LOSS(Y, model(X))
    evaluated = trainer.evaluate(X, Y, 16, verbose=0)
    np.testing.assert_allclose(evaluated, plain, rtol=1e-5)


def test_losses_of_layers_count_once():
    trainer = compiled(make(regularizer=keras.regularizers.L2(10.0)), 1e-6)
    weights = trainer.model.layers[0].kernel.numpy()
    plain = LOSS(Y, trainer.model(X))
    for alpha in (0.5, 1.0):
        trainer.alpha = alpha
        loss = trainer.compute_loss(X, Y, trainer(X, training=True))
        np.testing.assert_allclose(
            loss, plain + 10 * (weights**2).sum(), rtol=1e-4
        )


def test_the_attack_moves_no_state_of_the_model():
    model = make(norm=True)
    trainer = compiled(model)
    before = [w.numpy() for w in model.weights]
    trainer.attack(X, Y)
    trainer.evaluate(X, Y, verbose=0)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    model.get_layer("features").trainable = False
    trainer.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(before[0], model.weights[0])


def test_the_fine_tuned_model_teaches_and_is_saved_alone(tmp_path):
    trainer = compiled(num_steps=1)
    trainer.fit(X, Y, verbose=0)
    trainer.save(tmp_path / "model.keras")
    robust = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(robust(X), trainer.model(X))
    student = make()
    distiller = Distiller(robust, student, TokenDistillation())
    distiller.compile("adam", LOSS, run_eagerly=True)
    logs = distiller.fit(X, Y, verbose=0).history
    assert np.isfinite(logs["distillation_loss"]).all()


def test_half_precision_is_a_number():
    trainer = AdversarialTrainer(make("mixed_float16"), 0.1, num_steps=2)
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    losses = fit(trainer, scaling, run_eagerly=True)["loss"]
    assert np.isfinite(losses).all()


def frozen():
    model = make()
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: AdversarialTrainer(make(), 0.0), "radius=0.0"),
        (lambda: AdversarialTrainer(make(), 1.0, 0), "num_steps=0"),
        (lambda: AdversarialTrainer(make(), 1.0, norm="1"), "norm='1'"),
        (lambda: AdversarialTrainer(make(), 1.0, alpha=1.5), "alpha=1.5"),
        (lambda: AdversarialTrainer(make(), 1.0, step_size=-1), "step_size=-1"),
        (
            lambda: AdversarialTrainer(make(), 1.0, bounds=(1, 0)),
            r"bounds=\(1, 0\)",
        ),
        (lambda: AdversarialTrainer(frozen(), 1.0), "without any"),
        (lambda: compiled().attack({"x": X}, Y), "type dict"),
        (lambda: compiled().attack(X.astype("int32"), Y), "floating-point"),
    ],
)
def test_errors_name_the_argument(run, message):
    with pytest.raises(ValueError, match=message):
        run()
