"""Upcycling of `SwitchTransformer`."""

import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe import models
from keras_moe.conversion import upcycle
from keras_moe.weights import named_weights
from tests.conversion.upcycle_case import tiny_transformer


def test_switch_transformers_change_their_config():
    dense = tiny_transformer(gated=True, activation="gelu")
    sparse, report = upcycle(dense, 4, "switch", return_report=True)
    assert isinstance(sparse, models.SwitchTransformer)
    assert sparse.config.num_experts == 4
    blocks = [f"{stack}/block_1/" for stack in ("encoder", "decoder")]
    assert report.merged == tuple(
        f"{block}sparse_moe/experts/{part}/kernel"
        for block in blocks
        for part in ("wi", "wi_gate", "wo")
    )
    assert report.fresh == tuple(
        f"{block}sparse_moe/router/kernel" for block in blocks
    )
    assert len(report.copied) == len(dense.weights) - 6
    named = named_weights(sparse)
    assert {id(w) for w in sparse.weights} == {
        id(named[name])
        for name in (*report.copied, *report.merged, *report.fresh)
    }
    given = named_weights(dense)
    for name in report.copied:
        np.testing.assert_array_equal(named[name], given[name])
    for name in report.merged:
        origin = given[name.replace("sparse_moe/experts", "feed_forward")]
        for expert in range(4):
            np.testing.assert_array_equal(named[name][expert], origin)


@pytest.mark.usefixtures("functions_run_eagerly")
def test_switch_transformers_start_where_the_dense_one_was(tmp_path):
    dense = tiny_transformer()
    sparse = upcycle(dense, 4)
    ids = np.array([[5, 6, 7, 1], [8, 9, 1, 0]])
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    left, right = np.asarray(sparse(inputs)), np.asarray(dense(inputs))
    real = ids != 0
    np.testing.assert_allclose(left[real], right[real], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        sparse.generate(ids, max_length=5)["token_ids"],
        dense.generate(ids, max_length=5)["token_ids"],
    )
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(inputs), left, atol=1e-5)


def test_encoder_and_decoder_may_route_differently():
    """As the paper has it."""

    def router(stack):
        return "expert_choice" if stack == "encoder" else "glam"

    sparse = upcycle(tiny_transformer(), 4, router)
    block = sparse.encoder.blocks[1].feed_forward
    assert isinstance(block.router, layers.ExpertChoiceRouter)
    block = sparse.decoder.blocks[1].feed_forward
    assert isinstance(block.router, layers.TopKRouter)
    assert block.router.num_selected_experts == 2
    # What the encoder chooses for a row is the row's own affair.
    ids = np.array([[5, 6, 7, 1], [8, 9, 1, 0]])
    both = sparse.encode(ids)[0]
    np.testing.assert_allclose(both[:1], sparse.encode(ids[:1])[0], atol=1e-5)
    for wrong in (layers.TopKRouter(), lambda name: layers.TopKRouter()):
        with pytest.raises(ValueError, match="must be the name of a router"):
            upcycle(tiny_transformer(), 4, wrong)
    with pytest.raises(ValueError, match="`decoder_router` must be one of"):
        upcycle(tiny_transformer(), 4, "expert_choice")
