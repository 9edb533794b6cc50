"""The model learns to copy what it reads."""

import keras
import numpy as np
import pytest

from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.ops import shift_right


# Layers learn by default, and students do in the tests of distillation.
@pytest.mark.large
@pytest.mark.parametrize("num_experts", [0, 4])
def test_learns_to_copy(num_experts):
    keras.utils.set_random_seed(1)
    model = SwitchTransformer(
        vocabulary_size=8,
        model_dim=32,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_heads=4,
        hidden_dim=64,
        num_experts=num_experts,
        moe_every=1,
        dropout_rate=0.0,
        expert_dropout_rate=0.0,
    )
    rng = np.random.default_rng(0)
    source = rng.integers(2, 8, (1024, 4)).astype("int32")
    targets = np.pad(source, ((0, 0), (0, 1)), constant_values=1)
    inputs = {
        "encoder_token_ids": source,
        "decoder_token_ids": shift_right(targets).numpy(),
    }
    model.compile(
        keras.optimizers.Adam(5e-3), token_crossentropy, jit_compile=False
    )
    history = model.fit(
        inputs, targets, batch_size=64, epochs=12, verbose=0
    ).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    unseen = rng.integers(2, 8, (64, 4)).astype("int32")
    said = np.asarray(model.generate(unseen, 5)["token_ids"])
    assert np.mean(said[:, :4] == unseen) > 0.6
    assert np.mean(said[:, 4] == 1) > 0.6
