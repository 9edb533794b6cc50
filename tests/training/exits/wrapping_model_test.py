"""What is saved of a model that another one wraps."""

import keras
import numpy as np
import pytest

from keras_moe.losses import token_crossentropy
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import ExitClassifierTrainer
from tests.training.exits.early_exit_case import data
from tests.training.exits.early_exit_case import make


@pytest.mark.parametrize("kind", [EarlyExitTrainer, ExitClassifierTrainer])
def test_a_checkpoint_of_fit_is_the_wrapped_model(kind, tmp_path):
    model, (x, y) = make(layers=2, exit_classifier=True), data()
    trainer = kind(model)
    trainer.compile("sgd", token_crossentropy, run_eagerly=True)
    path = tmp_path / "{epoch}.keras"
    trainer.fit(
        x, y, verbose=0,
        callbacks=[keras.callbacks.ModelCheckpoint(path)],
    )  # fmt: skip
    loaded = keras.models.load_model(tmp_path / "1.keras")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded(x), model(x))
    for weight, kept in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, kept)


@pytest.mark.parametrize("kind", [EarlyExitTrainer, ExitClassifierTrainer])
def test_state_of_the_training_is_of_the_wrapper(kind, tmp_path):
    trainer = kind(make(exit_classifier=True))
    trainer.save_weights(tmp_path / "state.weights.h5")
    other = kind(make(exit_classifier=True))
    other.load_weights(tmp_path / "state.weights.h5")
    x, _ = data()
    np.testing.assert_array_equal(other.model(x), trainer.model(x))
    with pytest.raises(NotImplementedError, match=f"A `{kind.__name__}` has"):
        trainer.get_config()
