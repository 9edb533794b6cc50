"""Models whose step is traced once, whatever their optimizer needs."""

import keras
import numpy as np
import pytest

from keras_moe.training._traced_once import TracedOnce

X, Y = np.ones((4, 2)), np.ones((4, 1))


class Counting(TracedOnce):
    def __init__(self, built, dtype=None):
        super().__init__(dtype=dtype)
        self.traces = 0
        self.dense = keras.layers.Dense(1, dtype=dtype)
        if built:
            self.dense.build((None, 2))
        self.built = True

    def call(self, x):
        self.traces += 1
        return self.dense(x)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_step_is_traced_once(dtype):
    model = Counting(True, dtype=dtype)
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    assert model.traces == 1
    # Compiled anew, it has another optimizer and another step.
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    assert model.traces == 2


def test_layers_that_are_not_built_yet_are_trained():
    model = Counting(built=False)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    assert len(model.trainable_variables) == 2
    # A momentum and a velocity each, beside the rate and the count.
    assert len(model.optimizer.variables) == 2 + 2 * 2
