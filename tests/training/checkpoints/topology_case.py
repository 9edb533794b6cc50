"""From one device to several, and back: a case of `replicas_case`."""

import keras
import numpy as np
import tensorflow as tf

from keras_moe.training._build_state import build_state
from keras_moe.training.checkpoints._checkpoints import Checkpoints
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.nonfinite._all_finite import all_finite
from keras_moe.training.nonfinite._name_nonfinite import name_nonfinite
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import assert_equal
from tests.training.example_model import make_model
from tests.training.example_model import values_of


def make(replicas, **options):
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        devices = [f"CPU:{number}" for number in range(replicas)]
        strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        model = make_model(**options)
        build_state(model, (X, Y))
    return model


def check(directory, *numbers):
    """Values are the same bits on any number of replicas."""
    checkpoints = Checkpoints(directory, asynchronous=False)
    # A few steps take less time than their graph.
    model = make(1, run_eagerly=True)
    for _ in range(3):
        model.train_on_batch(X, Y)
    expected = values_of(model)
    checkpoints.save(model, Position(step=3))
    for replicas in (*numbers, 1):
        model = make(replicas)
        assert checkpoints.restore(model) == Position(step=3)
        assert_equal(values_of(model), expected)
        checkpoints.save(model, Position(step=3))
        assert all_finite(model)
        # In one piece, whatever the strategy.
        assert "all is finite" in name_nonfinite(model, (X, Y))
        spoilt = X * np.float32(1e38)
        assert "its outputs are not" in name_nonfinite(model, (spoilt, Y))
        assert_equal(values_of(model), expected)
    served = make_model(compiled=False)
    checkpoints.restore(served)
    served.save(f"{directory}/served.keras")
    loaded = keras.saving.load_model(f"{directory}/served.keras")
    assert np.array_equal(loaded(X), model(X))
