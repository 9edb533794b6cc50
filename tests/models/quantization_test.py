"""int8 models keep their answers, saved or not."""

import gc

import keras
import numpy as np
import pytest

from keras_moe import models
from keras_moe.generation import decode

pytestmark = pytest.mark.filterwarnings(
    "ignore:Layer .* does not have a `quantize` method"
)


@pytest.fixture(autouse=True, scope="module")
def quick_quantization():
    # Keras collects all garbage after each kernel that it replaces.
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_the_model_quantizes_and_saves(tmp_path, tie_embeddings):
    model = models.SwitchTransformer.from_preset(
        "switch_tiny",
        num_encoder_layers=1,
        num_decoder_layers=1,
        moe_every=1,
        tie_embeddings=tie_embeddings,
        target_vocabulary_size=24,
    )
    ids = np.array([[5, 6, 7, 1], [8, 9, 1, 0]])
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    exact = np.asarray(model(inputs))
    model.quantize("int8")
    rough = np.asarray(model(inputs))
    # int8 has 127 steps to a side; errors of a few steps add up over blocks.
    assert np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()
    for _ in range(2):  # what was loaded saves as well as what was made
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(model(inputs), rough, atol=1e-5)
    kernels = [w for w in model.weights if w.path.endswith("/kernel")]
    assert {w.path for w in kernels if w.dtype != "int8"} == {
        w.path for w in kernels if "router" in w.path
    }


@pytest.mark.parametrize(
    "blocks", [1, pytest.param(2, marks=pytest.mark.large)]
)
def test_what_was_compiled_before_is_not_used_after(tmp_path, blocks):
    model = models.SwitchTransformer.from_preset(
        "switch_tiny",
        num_experts=0,
        num_encoder_layers=blocks,
        num_decoder_layers=blocks,
    )
    model.save(tmp_path / "float.keras")
    ids = np.random.default_rng(0).integers(2, 32, (16, 6))
    before = model.generate(ids, 6)["log_probability"]
    model.quantize("int8")
    after = model.generate(ids, 6)["log_probability"]
    # As a model of which nothing was compiled, or called, before.
    other = keras.saving.load_model(tmp_path / "float.keras")
    other.quantize("int8")
    expected = decode(other, ids, 6)["log_probability"]
    np.testing.assert_allclose(after, expected, rtol=1e-5)
    assert np.abs(before - after).max() > 1e-4
