"""A teacher out of a file or directory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import load_teacher


def make(seed=0):
    inputs = keras.Input((3,), name="features")
    initializer = keras.initializers.RandomNormal(seed=seed)
    outputs = keras.layers.Dense(4, kernel_initializer=initializer)(inputs)
    return keras.Model(inputs, outputs)


class Foreign(tf.Module):
    """A model of another library: two inputs, two outputs."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(3.0)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None,), tf.int64, name="ids"),
            tf.TensorSpec((None,), tf.float32, name="offset"),
        ]
    )
    def both(self, ids, offset):
        logits = self.scale * tf.cast(ids, tf.float32) + offset
        return {"logits": logits, "other": -logits}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64, name="ids")])
    def one(self, ids):
        return {"logits": self.scale * tf.cast(ids - 2**24, tf.float32)}


@pytest.fixture
def x():
    return np.random.normal(size=(2, 3)).astype("float32")


@pytest.fixture
def foreign(tmp_path):
    module = Foreign()
    signatures = {"serving_default": module.both, "single": module.one}
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures)
    return tmp_path / "foreign"


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_keras_file(kind, x, tmp_path):
    model = make()
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    teacher = load_teacher(kind(tmp_path / "model.keras"))
    np.testing.assert_array_equal(teacher(x), model(x))
    assert teacher.trainable_variables == []
    assert len(teacher.weights) == 2
    assert not teacher.compiled


def test_the_keras_model_beside_what_is_served(x, tmp_path):
    # Two models: what is served may answer in text.
    make(seed=1).export(tmp_path / "1", verbose=False)
    (tmp_path / "1" / "assets.extra").mkdir()
    model = make(seed=2)
    model.save(tmp_path / "1" / "assets.extra" / "model.keras")
    teacher = load_teacher(tmp_path / "1")
    np.testing.assert_array_equal(teacher(x), model(x))
    assert [layer.name for layer in teacher.layers] == [
        layer.name for layer in model.layers
    ]
    assert teacher.trainable_variables == []


def test_a_signature_of_an_exported_model(x, tmp_path):
    model = make()
    model.export(tmp_path / "1", verbose=False)
    teacher = load_teacher(str(tmp_path / "1"))
    assert teacher.built
    assert teacher.trainable_variables == []
    expected = model(x)
    np.testing.assert_allclose(teacher(x), expected, rtol=1e-6)
    np.testing.assert_allclose(teacher(x, training=True), expected, rtol=1e-6)
    np.testing.assert_allclose(
        teacher({"features": x, "labelled": x[:, 0]}), expected, rtol=1e-6
    )
    # It casts for itself, and runs in a graph.
    np.testing.assert_allclose(
        tf.function(teacher)(tf.cast(x, "float64")), expected, rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"takes \['features'\].*without"):
        teacher({"x": x})


def test_an_output_of_several(foreign):
    ids = np.array([1, 2], "int32")
    inputs = {"ids": ids, "offset": np.array([0.5, 0.25])}
    for output, sign in (("logits", 1), ("other", -1)):
        teacher = load_teacher(foreign, output=output)
        np.testing.assert_array_equal(
            teacher(inputs), [sign * 3.5, sign * 6.25]
        )
    with pytest.raises(ValueError, match="several inputs.*'ids', 'offset'"):
        teacher(ids)
    for output in (None, "logit"):
        with pytest.raises(ValueError, match=r"\['logits', 'other'\]"):
            load_teacher(foreign, output=output)


def test_a_signature_of_several(foreign):
    teacher = load_teacher(foreign, signature="single")
    # Great ids survive: they are never made float.
    ids = np.array([2**24 + 1], "int64")
    np.testing.assert_array_equal(teacher(ids), [3.0])
    with pytest.raises(ValueError, match=r"'double'.*\['serving_default', 's"):
        load_teacher(foreign, signature="double")


def test_a_saved_model_without_signatures(tmp_path):
    module = tf.Module()
    module.value = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "1"))
    with pytest.raises(
        ValueError, match="'serving_default'.*with none.*model.keras"
    ):
        load_teacher(tmp_path / "1")


def test_there_is_nothing_to_load(tmp_path):
    make().export(tmp_path / "models" / "1", verbose=False)
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "models"):
        with pytest.raises(ValueError, match=f"version's.*Received: {path}"):
            load_teacher(path)
