import keras
import numpy as np
import pytest

from keras_moe.training import all_finite
from keras_moe.training import build_state
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import make_built_model
from tests.training.example_model import make_model


@pytest.fixture(scope="module")
def model():
    """As it was made, before and after each test."""
    return make_built_model()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite(model, bad):
    assert all_finite(model)
    for variable in (model.layers[-1].bias, model.optimizer.variables[-1]):
        good = np.array(np.asarray(variable))
        spoilt = good.copy()
        spoilt.flat[-1] = bad
        variable.assign(spoilt)
        assert not all_finite(model)
        variable.assign(good)
        assert all_finite(model)
    # The greatest of no values is minus infinity.
    model.metrics_variables[0].assign(bad)
    assert all_finite(model)
    model.reset_metrics()


def test_all_finite_follows_what_is_built_later():
    model = make_model()
    assert all_finite(model)
    build_state(model, (X, Y))
    model.optimizer.variables[-1].assign(
        np.full(model.optimizer.variables[-1].shape, np.nan)
    )
    assert not all_finite(model)


def test_all_finite_of_half_precision_and_integers():
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2)])
    finally:
        keras.config.set_dtype_policy("float32")
    assert all_finite(model)
    model.layers[0].bias.assign([np.inf, 0.0])
    assert not all_finite(model)
    assert all_finite(keras.Sequential([keras.Input([2])]))
