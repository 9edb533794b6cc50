import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training import build_state
from keras_moe.training._compiled_steps import make_test_steps
from keras_moe.training._compiled_steps import make_train_steps
from tests.covering import covering

X = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")


def make_model(dropout=0.0, jit_compile=False):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dropout(dropout), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input([2]), *layers])
    model.compile("adam", "mse", metrics=["mae"], jit_compile=jit_compile)
    build_state(model, (X, X))
    return model


def iterator(batch_size=1):
    data = tf.data.Dataset.from_tensor_slices((X, X)).batch(batch_size)
    return iter(data)


def state_of(model):
    return [np.asarray(v) for v in model.variables]


@pytest.mark.parametrize(
    ("options", "jit_compile"),
    covering([{}, {"steps_per_execution": 4}], [False, True], strength=1),
)
def test_steps_are_those_of_the_model(options, jit_compile):
    model = make_model(0.5, jit_compile)
    steps = make_train_steps(model, **options)
    logs, batches = [], iterator()
    for count in [3, 2] if options else [1] * 5:
        logs += steps(batches, count)
    other = make_model(0.5, jit_compile)
    expected = [
        other.train_on_batch(x, y, return_dict=True)
        for (x, y), _ in zip(iterator(), range(5), strict=False)
    ]
    for name in ("loss", "mae"):
        # Logs are running means, `train_on_batch` starts anew.
        wanted = np.cumsum([float(each[name]) for each in expected])
        received = np.array([each[name] for each in logs])
        np.testing.assert_allclose(
            received, wanted / np.arange(1, 6), rtol=1e-6, err_msg=name
        )
    for mine, theirs in zip(state_of(model), state_of(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_no_random_number_is_drawn_at_the_end_of_data():
    model = make_model(0.5)
    steps, batches = make_train_steps(model), iterator(batch_size=6)
    steps(batches, 1)
    before = state_of(model)
    for _ in range(2):
        with pytest.raises(tf.errors.OutOfRangeError):
            steps(batches, 1)
    for mine, theirs in zip(state_of(model), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_model_has_its_own_optimizer_again():
    model = make_model()
    optimizer = model.optimizer
    steps = make_train_steps(model, gradient_accumulation_steps=2)
    # 2 updates of 2, and one of what is left.
    assert len(steps(iterator(), 5)) == 5
    assert model.optimizer is optimizer
    assert int(np.asarray(optimizer.iterations)) == 3


def test_evaluation_changes_metrics_alone():
    model = make_model(0.5)
    weights = [np.asarray(w) for w in model.weights]
    (logs,) = make_test_steps(model)(iterator(batch_size=6), 1)
    difference = model(X).numpy() - X
    assert logs == pytest.approx(
        {
            "loss": np.mean(difference**2),
            "mae": np.mean(np.abs(difference)),
        }
    )
    for mine, theirs in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_logs_that_are_no_scalars_are_left_out():
    class Model(keras.Model):
        def train_step(self, data):
            return {
                "step": tf.constant(3),
                "nested": {"a": tf.constant(1.0)},
                "vector": tf.zeros([2]),
            }

    inputs = keras.Input([2])
    model = Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse")
    assert make_train_steps(model)(iterator(), 1) == [{"step": 3.0}]
