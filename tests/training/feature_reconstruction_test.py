import keras
import numpy as np
import pytest

from keras_moe.training import FeatureReconstruction
from tests.training.robust_case import LOSS
from tests.training.robust_case import WEIGHTS
from tests.training.robust_case import X
from tests.training.robust_case import Y
from tests.training.robust_case import fit
from tests.training.robust_case import make


def test_alpha_0_equals_plain_training():
    plain, model = make(regularizer="l2"), make(regularizer="l2")
    one = fit(plain, run_eagerly=True)
    trainer = FeatureReconstruction(model, "features", alpha=0)
    other = fit(trainer, run_eagerly=True)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6)
    assert other["reconstruction_loss"][0] > 0
    for a, b in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_loss_equals_numpy():
    model = make()
    trainer = FeatureReconstruction(model, "features", alpha=2.5)
    trainer.compile("sgd", LOSS, run_eagerly=True)
    loss = trainer.evaluate(X, Y, 16, sample_weight=WEIGHTS, verbose=0)
    features = np.tanh(X @ model.layers[0].kernel.numpy())
    logits = features @ model.layers[1].kernel.numpy()
    decoded = logits @ trainer.decoder.kernel.numpy()
    far = ((features - decoded) ** 2).mean(-1)
    distance = (far * WEIGHTS).sum() / WEIGHTS.sum()
    chosen = np.take_along_axis(logits, Y[:, None], 1)[:, 0]
    entropy = np.log(np.exp(logits).sum(-1)) - chosen
    expected = (entropy * WEIGHTS).mean() + 2.5 * distance
    np.testing.assert_allclose(loss[0], expected, rtol=1e-5)
    np.testing.assert_allclose(loss[1], distance, rtol=1e-5)


def test_outputs_come_to_tell_the_features():
    trainer = FeatureReconstruction(make(), "features", alpha=10.0)
    logs = fit(trainer, epochs=5, repeat=5, jit_compile=True)
    assert logs["reconstruction_loss"][-1] < (
        0.5 * logs["reconstruction_loss"][0]
    )


def test_stages_are_settings_of_trainable():
    model = make()
    model.get_layer("features").trainable = False
    before = model.get_weights()
    trainer = FeatureReconstruction(model, "features")
    decoder = trainer.decoder.kernel.numpy()
    fit(trainer, run_eagerly=True)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[2], after[2])
    assert not np.array_equal(decoder, trainer.decoder.kernel)
    model.get_layer("features").trainable = True
    model.get_layer("head").trainable = False
    before = model.get_weights()
    fit(trainer, run_eagerly=True)
    after = model.get_weights()
    assert not np.array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[2], after[2])


def test_evaluation_moves_nothing_and_the_model_is_saved_alone(tmp_path):
    model = make()
    trainer = FeatureReconstruction(model, "features")
    fit(trainer, run_eagerly=True)
    before = [w.numpy() for w in trainer.weights]
    trainer.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(
        trainer.predict(X, verbose=0), model(X), atol=1e-6
    )
    for a, b in zip(before, trainer.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    trainer.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    assert len(loaded.weights) == 4


def test_mixed_precision_is_a_number():
    trainer = FeatureReconstruction(make("mixed_float16"), "features")
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    losses = fit(trainer, scaling, run_eagerly=True)["loss"]
    assert np.isfinite(losses).all()


def test_features_of_several_axes_and_a_decoder_of_ones_own():
    inputs = keras.Input((6, 1))
    x = keras.layers.Conv1D(2, 3, name="convolution")(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x))
    )
    decoder = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(8)])
    trainer = FeatureReconstruction(model, "convolution", decoder=decoder)
    trainer.compile("sgd", LOSS, run_eagerly=True)
    assert np.isfinite(trainer.evaluate(X[..., None], Y, verbose=0)).all()


def test_padding_is_not_reconstructed():
    """Nor are examples of padding alone, which also have no gradient."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((3, 2))
    x = keras.layers.Masking()(inputs)
    x = keras.layers.Dense(4, name="features")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.get_layer("features").bias.assign([1.0, 2.0, 3.0, 4.0])
    trainer = FeatureReconstruction(model, "features", alpha=2.0)
    trainer.compile("sgd", "mse", run_eagerly=True)
    data = X.reshape(-1, 3, 2).copy()
    real = np.arange(3) < (np.arange(16) % 4)[:, None]
    data[~real] = 0
    loss = trainer.evaluate(
        data, np.zeros((16, 3, 2)), 4, verbose=0, return_dict=True
    )
    features, outputs = (
        np.where(real[..., None], trainer(data)[name], 0).reshape(16, -1)
        for name in ("features", "outputs")
    )
    far = (features - outputs @ trainer.decoder.kernel.numpy()) ** 2
    far = far.reshape(16, 3, 4).mean(-1)
    each = [far[i, :n].mean() for i, n in enumerate(real.sum(-1)) if n]
    np.testing.assert_allclose(
        loss["reconstruction_loss"], np.mean(each), rtol=1e-5
    )
    kept = trainer.decoder.kernel.numpy()
    trainer.fit(data[::4], np.zeros((4, 3, 2)), verbose=0)  # all padding
    np.testing.assert_array_equal(trainer.decoder.kernel, kept)


def frozen():
    model = make()
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: FeatureReconstruction(make(), "nothing"), "layer='nothing'"),
        (lambda: FeatureReconstruction(make(), "head", -1.0), "alpha=-1.0"),
        (lambda: FeatureReconstruction(frozen(), "head"), "without any"),
        (
            lambda: FeatureReconstruction(
                keras.Sequential([keras.layers.Dense(2)]), "dense"
            ),
            "built",
        ),
    ],
)
def test_errors_name_the_argument(run, message):
    with pytest.raises(ValueError, match=message):
        run()
