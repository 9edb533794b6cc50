import keras
import numpy as np
import pytest

import keras_moe
from keras_moe.training import build_state
from keras_moe.training.checkpoints._model_state import assign_seeds
from keras_moe.training.checkpoints._model_state import assign_state
from keras_moe.training.checkpoints._model_state import read_seeds
from keras_moe.training.checkpoints._model_state import read_state

X = np.ones((2, 3), "float32")


def make_model():
    layer = keras.layers.Dense(2, name="dense")
    model = keras.Sequential([keras.Input([3]), layer], name="model")
    model.compile("adam", "mse")
    build_state(model, (X, X[:, :2]))
    return model


def with_random_features(seed):
    inputs = keras.Input([4, 8])
    layer = keras_moe.layers.RandomFeatureAttention(
        num_heads=2, key_dim=4, num_random_features=8, seed=seed
    )
    return keras.Model(inputs, layer(inputs, inputs))


def test_values_read_back():
    model, other = make_model(), make_model()
    model.fit(X, X[:, :2], verbose=0)
    state = read_state(model)
    assign_state(other, state)
    for name, value in read_state(other).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_a_sparse_layer_of_an_earlier_version_reads_back():
    """Layers without a name were `sparse_mo_e` in its checkpoints."""

    def make(**kwargs):
        inputs = keras.Input([3, 4])
        layer = keras_moe.layers.SparseMoE(2, hidden_dim=3, **kwargs)
        model = keras.Model(inputs, layer(inputs))
        model.compile("adam", "mse")
        build_state(model, (np.ones((2, 3, 4), "float32"),) * 2)
        return model

    state = read_state(make(name="sparse_mo_e"))
    model = make()
    assign_state(model, state)
    for name, value in read_state(model).items():
        assert "/sparse_moe/" in name or "sparse_moe" not in name
        earlier = name.replace("sparse_moe", "sparse_mo_e")
        np.testing.assert_array_equal(value, state[earlier], err_msg=name)


def test_integers_may_be_of_another_width():
    model = make_model()
    state = read_state(model)
    (name,) = (n for n in state if n.endswith("iteration"))
    other = "int64" if state[name].dtype == "int32" else "int32"
    assign_state(model, {**state, name: np.array(7, other)})
    assert int(np.asarray(model.optimizer.iterations)) == 7
    # Values that the width of the variable cannot hold, and other kinds of
    # number, are refused.
    for value in (np.array(2**63, "uint64"), np.array(7.0)):
        with pytest.raises(ValueError, match="iteration"):
            assign_state(model, {**state, name: value})
    assert int(np.asarray(model.optimizer.iterations)) == 7


def test_missing_metrics_are_reset():
    model = make_model()
    model.fit(X, X[:, :2], verbose=0)
    state = read_state(model)
    bare = {k: v for k, v in state.items() if not k.startswith("metrics/")}
    assert len(bare) < len(state)
    with pytest.raises(ValueError, match="Missing: metrics/"):
        assign_state(model, bare)
    assert np.any([np.any(np.asarray(v)) for v in model.metrics_variables])
    assign_state(model, bare, metrics_complete=False)
    assert not np.any([np.any(np.asarray(v)) for v in model.metrics_variables])


def test_seeds_of_layers_read_back():
    model, other = with_random_features(3), with_random_features(4)
    seeds = read_seeds(model)
    assert 3 in seeds.values()
    other.predict(np.ones((1, 4, 8)), verbose=0)
    assign_seeds(other, seeds)
    assert read_seeds(other) == seeds
    # A compiled function would go on with the old seed.
    assert other.predict_function is None


def test_equal_seeds_keep_what_is_compiled():
    model = with_random_features(3)
    model.predict(np.ones((1, 4, 8)), verbose=0)
    assign_seeds(model, {**read_seeds(model), "another_layer": 9})
    assert model.predict_function is not None
