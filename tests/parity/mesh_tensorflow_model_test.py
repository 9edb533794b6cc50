"""Checkpoints of mesh-tensorflow's own models, loaded by us."""

import importlib.util
import os
import sys

import numpy as np
import pytest

from benchmarks.shared import environment
from keras_moe import conversion
from keras_moe.models import SwitchTransformerConfig
from keras_moe.ops import shift_right

pytestmark = pytest.mark.large

if importlib.util.find_spec("mesh_tensorflow") is None:
    pytest.skip("needs the [parity] extra", allow_module_level=True)


@pytest.mark.parametrize(
    ("style", "sparse"),
    [("legacy", True), ("t5.1.0", False), ("t5.1.1", True), ("t5.1.1", False)],
)
def test_logits_are_equal(style, sparse, tmp_path):
    program = "tests.parity.mesh_tensorflow_model"
    command = [sys.executable, "-m", program, tmp_path, style]
    environment.run([*command, "true" if sparse else "false"], os.environ)
    new = style == "t5.1.1"
    config = SwitchTransformerConfig(
        vocabulary_size=128,  # 100, padded
        model_dim=32,
        num_heads=4,
        key_dim=8,
        hidden_dim=64,
        # Theirs are of two layers each where one is sparse.
        num_encoder_layers=4 if sparse else 2,
        num_decoder_layers=4 if sparse else 2,
        num_experts=4 if sparse else 0,
        gated=new,
        activation="gelu_tanh" if new else "relu",
        tie_embeddings=not new,
    )
    model = conversion.load_mesh_tensorflow(tmp_path / "model.ckpt", config)
    answers = np.load(tmp_path / "answers.npz")
    logits = model(
        {
            "encoder_token_ids": answers["source"],
            "decoder_token_ids": shift_right(answers["target"]),
        }
    )
    written = answers["target"] != 0  # theirs computes padding otherwise
    np.testing.assert_allclose(
        np.asarray(logits)[written],
        answers["logits"][written],
        rtol=1e-4,
        atol=1e-4,
    )
