"""Upcycling of `SwitchTransformer`."""

import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe import models
from keras_moe.conversion import upcycle
from tests.conversion.upcycle_case import tiny_transformer


def test_switch_transformers_change_their_config():
    dense = tiny_transformer(gated=True, activation="gelu")
    sparse, report = upcycle(dense, 4, "switch", return_report=True)
    assert isinstance(sparse, models.SwitchTransformer)
    assert sparse.config.num_experts == 4
    assert report.converted == (
        "encoder/block_1/feed_forward",
        "decoder/block_1/feed_forward",
    )
    assert len(report.replicated) == 6
    assert len(report.fresh) == 2
    assert len(report.copied) == len(dense.weights) - 6
    assert {id(w) for w in sparse.weights} == {
        id(w) for w in (*report.copied, *report.replicated, *report.fresh)
    }
    by_path = {w.path: w for w in dense.weights}
    for weight in report.copied:
        np.testing.assert_array_equal(weight, by_path[weight.path])
    for weight in report.replicated:
        path = weight.path.replace("sparse_moe/experts", "feed_forward")
        for expert in range(4):
            np.testing.assert_array_equal(weight[expert], by_path[path])


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
