"""What a `.keras` file brings back."""

import keras
import numpy as np
import pytest

from keras_moe.losses import token_crossentropy
from tests.models.switch_transformer.switch_transformer_case import EACH_KIND
from tests.models.switch_transformer.switch_transformer_case import KINDS
from tests.models.switch_transformer.switch_transformer_case import ONE_BLOCK
from tests.models.switch_transformer.switch_transformer_case import data
from tests.models.switch_transformer.switch_transformer_case import make


def assert_comes_back(model, path):
    inputs = data()
    expected = model(inputs)
    model.save(path)
    loaded = keras.models.load_model(path)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs), expected)
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]


@pytest.mark.parametrize("kind", EACH_KIND)
def test_keras_file_round_trip(kind, tmp_path):
    assert_comes_back(make(kind), tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("sparse", ONE_BLOCK),
        *(pytest.param(kind, {}, marks=pytest.mark.large) for kind in KINDS),
    ],
)
def test_a_model_that_has_generated_comes_back(kind, sizes, tmp_path):
    model = make(kind, **sizes)
    model.generate(data()["encoder_token_ids"], 2)
    assert_comes_back(model, tmp_path / "model.keras")


def test_a_compiled_model_survives_a_file(tmp_path, run_eagerly):
    model, inputs = make(num_experts=0), data()
    model.compile("sgd", token_crossentropy, run_eagerly=run_eagerly)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    targets = inputs["decoder_token_ids"]
    assert loaded.evaluate(inputs, targets, verbose=0) == pytest.approx(
        float(token_crossentropy(targets, model(inputs))), rel=1e-4
    )


def test_policy_survives_a_file(tmp_path):
    model = make(dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    inputs = data()
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
