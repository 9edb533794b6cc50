import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training import build_state
from keras_moe.training._compiled_steps import make_test_steps
from keras_moe.training._epoch_batches import EpochBatches
from keras_moe.training._evaluate import evaluate
from keras_moe.training._evaluate import read_metrics

X = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")


class Columns(keras.metrics.Metric):
    """Sums of the predictions' columns: a metric that is an array."""

    def __init__(self):
        super().__init__(name="columns")
        self.sums = self.add_weight(shape=(2,), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.sums.assign(self.sums + keras.ops.sum(y_pred, 0))

    def result(self):
        return self.sums + 0.0


@pytest.mark.parametrize("known_length", [True, False])
def test_metrics_are_over_all_batches(known_length):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae", Columns()])
    build_state(model, (X, X))
    data = tf.data.Dataset.from_tensor_slices((X, X)).batch(2)
    if not known_length:
        data = data.filter(lambda x, y: True)
    batches = EpochBatches(data, tf.distribute.get_strategy())
    expected = model(X).numpy()
    for _ in range(2):  # starts anew
        logs = evaluate(model, make_test_steps(model), batches)
        assert logs["loss"] == pytest.approx(np.mean((expected - X) ** 2))
        assert logs["mae"] == pytest.approx(np.mean(np.abs(expected - X)))
        np.testing.assert_allclose(logs["columns"], expected.sum(0), rtol=1e-5)
    assert isinstance(logs["loss"], float)
    assert read_metrics(model).keys() == logs.keys()
