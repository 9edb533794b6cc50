"""A model with all that a checkpoint has to hold."""

import keras
import numpy as np

import keras_moe
from keras_moe.training._build_state import build_state
from keras_moe.weights._named_state import named_state

X = np.random.default_rng(0).normal(size=[4, 6, 8]).astype("float32")
Y = np.random.default_rng(1).normal(size=[4, 6, 3]).astype("float32")


def make_model(compiled=True, **options):
    inputs = keras.Input([6, 8])
    x = keras_moe.layers.RandomFeatureAttention(
        num_heads=2,
        key_dim=4,
        num_random_features=8,
        redraw_interval=2,
        exact_below=None,
    )(inputs, inputs)
    x = keras.layers.Dropout(0.3)(x + inputs)
    router = keras_moe.layers.BiasBalancedRouter(jitter_noise=0.1)
    x = keras_moe.layers.SparseMoE(4, 16, router=router)(x)
    layers = [keras.layers.Dense(8), keras.layers.Dense(8)]
    x = keras.Sequential(layers)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    if compiled:
        # Two of one name.
        metrics = [keras.metrics.MeanSquaredError() for _ in range(2)]
        # By XLA, a step takes seconds to compile.
        options = {"jit_compile": False, **options}
        model.compile("adam", "mse", metrics=["mae", *metrics], **options)
    return model


def make_built_model(**options):
    model = make_model(**options)
    build_state(model, (X, Y))
    return model


def values_of(model):
    return {
        name: np.array(np.asarray(variable))
        for name, variable in named_state(model).items()
    }


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype, name
        assert value.shape == right[name].shape, name
        assert value.tobytes() == right[name].tobytes(), name
