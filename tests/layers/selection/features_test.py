"""Groups, named inputs, what is kept of them, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.layers import SelectFeatures
from keras_moe.layers import SequentialAttention
from tests.layers.layer_test_case import run_layer_test

RNG = np.random.default_rng(5)
X = RNG.normal(size=(256, 6)).astype("float32")
GROUPS = [("size", 1), ("colour", 3), ("age", 2)]
INPUTS = {"size": X[:, :1], "colour": X[:, 1:4], "age": X[:, 4:]}
Y = X[:, 1] + X[:, 2] - X[:, 3] + 0.1 * X[:, 0]


def selection(k=1, **options):
    return SequentialAttention(k, total_steps=80, **options)


def fit(model, x):
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices((x, Y)).batch(32).repeat(11)
    model.fit(batches, verbose=0)


def test_a_group_is_picked_as_a_whole():
    layer = selection(groups=GROUPS)
    fit(keras.Sequential([layer, keras.layers.Dense(1)]), X)
    assert layer.logits.shape == (3,)
    assert layer.selected() == ["colour"]
    kept = np.where(np.isin(np.arange(6), [1, 2, 3]), X, 0)
    np.testing.assert_array_equal(layer(X), kept)
    np.testing.assert_array_equal(layer.to_select_layer()(X), X[:, 1:4])


def test_named_inputs_are_features():
    inputs = {n: keras.Input([x.shape[1]], name=n) for n, x in INPUTS.items()}
    layer = selection()
    outputs = layer(inputs)
    joined = keras.layers.Concatenate()([outputs[name] for name in inputs])
    model = keras.Model(inputs, keras.layers.Dense(1)(joined))
    fit(model, INPUTS)
    assert layer.selected() == ["colour"]
    found = layer(INPUTS)
    for name, x in INPUTS.items():
        wanted = x if name == "colour" else np.zeros_like(x)
        np.testing.assert_array_equal(found[name], wanted)
    assert list(layer.to_select_layer()(INPUTS)) == ["colour"]


def test_named_inputs_are_saved(tmp_path):
    inputs = {n: keras.Input([x.shape[1]], name=n) for n, x in INPUTS.items()}
    layer = selection()
    layer.build({name: x.shape for name, x in INPUTS.items()})
    layer.pick.assign([-1, 0, -1])
    layer.step.assign(90)
    kept = keras.Model(inputs, layer.to_select_layer()(inputs))
    for number, model in enumerate([keras.Model(inputs, layer(inputs)), kept]):
        path = tmp_path / f"{number}.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        for name, value in model(INPUTS).items():
            np.testing.assert_array_equal(loaded(INPUTS)[name], value)


def test_features_of_named_inputs_that_say_nothing():
    layer = selection()
    inputs = {**INPUTS, "age": np.full_like(INPUTS["age"], 7)}
    inputs["size"] = inputs["size"].copy()
    inputs["size"][3] = np.nan
    assert layer.adapt(inputs) == ["age", "size"]
    found = layer(inputs, training=True)
    assert not np.any(found["age"]) and not np.any(found["size"])
    # A group is useful where one of its columns is.
    grouped = selection(groups=GROUPS)
    data = X.copy()
    data[:, 1], data[:, 4:] = 1.0, 2.0
    assert grouped.adapt(data) == ["age"]


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"k": 7}, (4, 6), "at most the 6 features.* num_features=7"),
        ({"k": 4, "groups": GROUPS}, (4, 6), "at most the 3 features"),
        ({"groups": GROUPS}, (4, 5), "the 5 columns .* groups of 6"),
        ({"groups": GROUPS}, {"a": (4, 5)}, "left out for a dictionary"),
        ({}, (4, None), "known number of columns"),
        ({}, (6,), "known number of columns"),
    ],
)
def test_inputs_that_do_not_fit(options, shape, message):
    with pytest.raises(ValueError, match=message):
        selection(**options).build(shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_features": 0}, "num_features=0"),
        ({"num_per_step": 3}, "num_per_step=3, num_features=2"),
        ({"num_per_step": 0}, "num_per_step=0"),
        ({"total_steps": 2.5}, "total_steps=2.5"),
        ({"total_steps": 2}, "a step for each of 2 picks .*total_steps=2"),
        ({"total_steps": 8, "num_runs": 9}, "of 9 runs"),
        ({"num_runs": 0}, "num_runs=0"),
        ({"warmup_fraction": 1.0}, "warmup_fraction=1.0"),
        ({"groups": [("a", 1), ("a", 2)]}, "all different. Received: 'a' twic"),
        ({"groups": [("a", 0)]}, r"groups\['a'\]=0"),
        ({"groups": []}, "`groups` must be some.*Received: none"),
    ],
)
def test_arguments_out_of_range(options, message):
    options = {"num_features": 2, "total_steps": 50, **options}
    with pytest.raises(ValueError, match=message):
        SequentialAttention(**options)


def test_integers_are_no_features():
    with pytest.raises(ValueError, match="floating-point.*int32"):
        selection()(np.ones((2, 6), "int32"))


def test_what_is_left_out_must_be_known_and_leave_enough():
    layer = selection(k=2)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="Received: .9."):
        layer.exclude([9])
    with pytest.raises(ValueError, match="num_features=2.*Received: 1"):
        layer.exclude([0, 2])
    with pytest.raises(ValueError, match="num_features=2.*Received: 0"):
        layer.adapt(np.ones((9, 3)))
    assert layer.usable.numpy().tolist() == [1, 1, 1]


def test_what_was_left_out_stays_out():
    layer = selection(k=2)
    layer.build((None, 4))
    layer.exclude([0])
    layer.exclude([])
    assert layer.adapt(X[:, :4]) == []
    assert layer.usable.numpy().tolist() == [0, 1, 1, 1]
    layer.exclude([0, 1])
    assert layer.usable.numpy().tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"Received: 1, without \[0, 1, 3\]"):
        layer.exclude([3])
    assert layer.usable.numpy().tolist() == [0, 0, 1, 1]


def test_what_is_picked_cannot_be_left_out():
    layer = selection()
    layer.build((None, 3))
    layer.pick.assign([-1, 0, -1])
    with pytest.raises(ValueError, match=r"picked already. Received: \[1\]"):
        layer.exclude([0, 1])
    with pytest.raises(ValueError, match=r"picked already. Received: \[1\]"):
        layer.adapt(np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 4.0]]))
    assert layer.usable.numpy().tolist() == [1, 1, 1]


def test_nothing_is_kept_before_it_is_picked():
    layer = selection()
    layer.build((None, 3))
    with pytest.raises(ValueError, match="0 after 0 of 80 steps. Received: 1"):
        layer.to_select_layer()


@pytest.mark.parametrize(
    ("features", "groups", "message"),
    [
        ([], None, "Received: none"),
        ([1, 1], None, "1 twice"),
        ([6], None, r"0 to 5. Received: \[6\]"),
        ([-1], None, r"Received: \[-1\]"),
        (["size"], None, "numbers from 0 to 5"),
        (["shoe"], GROUPS, "features='shoe'"),
    ],
)
def test_features_that_cannot_be_kept(features, groups, message):
    with pytest.raises(ValueError, match=message):
        SelectFeatures(features, groups)(X)


def test_inputs_that_are_not_there_cannot_be_kept():
    with pytest.raises(ValueError, match="features='shoe'"):
        SelectFeatures(["shoe"])(INPUTS)


@pytest.mark.parametrize("groups", [None, [("a", 2), ("b", 3)]])
def test_select_layer(groups):
    run_layer_test(
        SelectFeatures,
        {"features": ["b"] if groups else [3, 0], "groups": groups},
        input_shape=(2, 4, 5),
        expected_num_trainable_weights=0,
        supports_masking=True,
        run_training_check=False,
    )
