"""Equal models have equal fingerprints, and no others."""

import gc
import re

import keras
import numpy as np
import pytest

from keras_moe import weights
from keras_moe.models import SwitchTransformer
from tests import forked

IDS = np.array([[5, 6, 7, 1]])
INPUTS = {"encoder_token_ids": IDS, "decoder_token_ids": IDS}
IN_ANOTHER_PROCESS = """
import sys

import keras

from keras_moe import weights

# So that names are counted from elsewhere.
keras.layers.Dense(2)
print(weights.fingerprint(keras.models.load_model(sys.argv[1])))
"""


@pytest.fixture
def model():
    return SwitchTransformer.from_preset("switch_tiny")


@keras.saving.register_keras_serializable("calibration_tests")
class Unnamed(keras.Model):
    """Its layers have the names that Keras counts."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(4)
        self.rest = [keras.layers.Dense(4) for _ in range(11)]
        self.dropout = keras.layers.Dropout(0.5)
        self.norm = keras.layers.BatchNormalization()

    def call(self, inputs, training=False):
        x = self.first(inputs)
        for layer in self.rest:
            x = layer(self.dropout(x, training=training))
        return self.norm(x, training=training)


def unnamed():
    model = Unnamed()
    model(np.zeros([2, 4]))
    return model


def flip(weight, bit=0):
    """Changes the lowest bit of the last number."""
    value = keras.ops.convert_to_numpy(weight).copy()
    raw = value.reshape(-1)[-1:].view(np.uint8)
    raw[0] ^= 1 << bit
    value.reshape(-1)[-1:] = raw.view(value.dtype)
    weight.assign(value)


def reload(model, path):
    model.save(path)
    return keras.models.load_model(path)


def test_it_survives_a_file_and_a_process(model, tmp_path):
    path = tmp_path / "model.keras"
    fingerprint = weights.fingerprint(model)
    assert weights.fingerprint(reload(model, path)) == fingerprint
    done = forked.run_text(IN_ANOTHER_PROCESS, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == fingerprint
    assert re.fullmatch("2:[0-9a-f]{64}", fingerprint)


def test_any_bit_of_any_weight_counts(model):
    fingerprints = {weights.fingerprint(model)}
    for weight in model.weights:
        flip(weight)
        fingerprints.add(weights.fingerprint(model))
    assert len(fingerprints) == 1 + len(model.weights)


def test_a_flip_taken_back(model):
    before = weights.fingerprint(model)
    flip(model.weights[-1])
    assert weights.fingerprint(model) != before
    flip(model.weights[-1])
    assert weights.fingerprint(model) == before


@pytest.mark.usefixtures("functions_run_eagerly")
def test_use_does_not_count(model):
    before = weights.fingerprint(model)
    model(INPUTS)
    model(INPUTS, training=True)  # moves metrics and seeds
    model.generate(IDS, 3)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert weights.fingerprint(model) == before


def test_only_what_is_learned_counts(run_eagerly):
    model = unnamed()
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        metrics=["mae"],
        run_eagerly=run_eagerly,
    )
    before = weights.fingerprint(model)
    model.norm.trainable = False  # or its moving averages learn
    state = [np.array(v) for v in model.non_trainable_variables]
    model.fit(np.ones([4, 4]), np.ones([4, 4]), verbose=0)
    moved = [
        v.path
        for v, old in zip(model.non_trainable_variables, state, strict=True)
        if not np.array_equal(v, old)
    ]
    assert any("seed" in path for path in moved)
    assert weights.fingerprint(model) == before


@pytest.mark.parametrize("kind", ["unnamed", "functional", "sequential"])
def test_names_that_keras_counts(kind, tmp_path):
    if kind == "unnamed":
        model = unnamed()
    elif kind == "functional":
        inputs = keras.Input([4])
        a, b = keras.layers.Dense(3), keras.layers.Dense(3)
        model = keras.Model(inputs, b(inputs) - a(inputs))
    else:
        model = keras.Sequential([keras.layers.Dense(3) for _ in range(12)])
        model(np.zeros([5, 3]))
    before = weights.fingerprint(model)
    assert weights.fingerprint(reload(model, tmp_path / "m.keras")) == before
    # Two layers of a kind are told apart.
    first, second = [w for w in model.weights if w.path.endswith("kernel")][:2]
    kept = np.asarray(first)
    first.assign(second)
    second.assign(kept)
    assert weights.fingerprint(model) != before


def test_the_name_does_not_count(model):
    named = SwitchTransformer.from_preset("switch_tiny", name="other")
    named.set_weights(model.get_weights())
    assert named.weights[0].path != model.weights[0].path
    assert weights.fingerprint(named) == weights.fingerprint(model)


def test_the_class_counts(model):
    @keras.saving.register_keras_serializable("calibration_tests")
    class Other(SwitchTransformer):
        pass

    other = Other.from_config(model.get_config())
    other.set_weights(model.get_weights())
    assert weights.fingerprint(other) != weights.fingerprint(model)


def test_the_config_counts():
    fingerprints = set()
    for activation in ("relu", "gelu"):
        model = keras.Sequential(
            [
                keras.Input([3], name="x"),
                keras.layers.Dense(2, activation, name="y"),
            ]
        )
        model.set_weights([np.ones([3, 2]), np.zeros([2])])
        fingerprints.add(weights.fingerprint(model))
    assert len(fingerprints) == 2


def test_types_count(tmp_path):
    model = SwitchTransformer.from_preset("switch_tiny", dtype="bfloat16")
    before = weights.fingerprint(model)
    loaded = reload(model, tmp_path / "m.keras")
    assert weights.fingerprint(loaded) == before
    flip(loaded.weights[0])
    assert weights.fingerprint(loaded) != before


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_quantized_models_are_others(tmp_path):
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_experts=0,
    )
    model(INPUTS)
    before = weights.fingerprint(model)
    # Keras collects all garbage after each kernel that it replaces.
    gc.collect()
    gc.freeze()
    model.quantize("int8")
    after = weights.fingerprint(model)
    assert after != before
    loaded = reload(model, tmp_path / "m.keras")
    assert weights.fingerprint(loaded) == after


def test_models_must_be_built():
    with pytest.raises(ValueError, match="`model` must be built"):
        weights.fingerprint(keras.Sequential([keras.layers.Dense(2)]))
