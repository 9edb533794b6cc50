"""Half precision: near the exact answer, and finite in training."""

import numpy as np
import pytest

from keras_moe.losses import token_crossentropy
from tests.models.switch_transformer.switch_transformer_case import ONE_BLOCK
from tests.models.switch_transformer.switch_transformer_case import data
from tests.models.switch_transformer.switch_transformer_case import make


# Layers compute in half precision by default.
@pytest.mark.large
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    model, inputs = make(dtype=policy, **ONE_BLOCK), data()
    exact = make(**ONE_BLOCK)
    exact.set_weights(model.get_weights())
    logits = model(inputs)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, exact(inputs), atol=0.3)
    state = model.start_from(*model.encode(inputs["encoder_token_ids"]), 2)
    assert state.blocks[0].positions.keys.dtype == model.compute_dtype
    assert np.all(
        np.isfinite(
            model.generate(inputs["encoder_token_ids"], 3)["log_probability"]
        )
    )
    model.compile("adam", token_crossentropy, jit_compile=False)
    history = model.fit(inputs, inputs["decoder_token_ids"], verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
