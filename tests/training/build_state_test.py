import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training import build_state
from keras_moe.training._build_state import build_optimizer
from keras_moe.training._build_state import has_all_metrics
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal
from tests.training.example_model import make_model
from tests.training.example_model import values_of


def make_unbuilt(**options):
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile(**{"optimizer": "adam", "loss": "mse", **options})
    return model


def test_no_step_is_taken():
    model = make_model()
    before = values_of(model)
    assert not has_all_metrics(model)
    build_state(model, (X, Y))
    assert has_all_metrics(model) and model.optimizer.built
    after = values_of(model)
    assert_equal({name: after[name] for name in before}, before)
    # Once more, nothing is made or changed.
    build_state(model, (X, Y))
    assert_equal(values_of(model), after)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_state_is_that_of_a_step(weighted):
    spec = [tf.TensorSpec([None, width]) for width in (3, 2)]
    batch = [np.ones([4, 3], "float32"), np.ones([4, 2], "float32")]
    if weighted:
        spec.append(tf.TensorSpec([None]))
        batch.append(np.ones([4], "float32"))
    options = {"weighted_metrics": ["mae"]}
    built, trained = make_unbuilt(**options), make_unbuilt(**options)
    build_state(built, tuple(spec))
    trained.train_on_batch(*batch)
    shapes = [
        {name: value.shape for name, value in values_of(model).items()}
        for model in (built, trained)
    ]
    assert shapes[0] == shapes[1]
    assert int(np.asarray(built.optimizer.iterations)) == 0


def test_models_without_metrics_have_all():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    assert has_all_metrics(model)
    build_optimizer(model)  # without one, nothing is done
    model.compile("sgd", "mse")
    build_optimizer(model)
    assert model.optimizer.built
    assert not has_all_metrics(model)  # the loss has its mean
