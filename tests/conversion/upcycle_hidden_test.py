"""Networks inside of others' blocks become sparse, and the blocks stay."""

import keras
import numpy as np
import pytest

from keras_moe.conversion import find_feed_forwards
from keras_moe.conversion import upcycle
from tests.conversion import hidden_block_case as case
from tests.conversion.upcycle_case import DIM
from tests.conversion.upcycle_case import assert_equal_outputs
from tests.conversion.upcycle_case import data
from tests.conversion.upcycle_case import sparse_layers

MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
ALL = np.ones_like(MASK)


@pytest.fixture(scope="module")
def dense():
    return case.encoder()


@pytest.fixture(scope="module")
def sparse(dense):
    return upcycle(dense, 4, moe_every=1)


def test_networks_in_blocks_are_found(dense):
    found = find_feed_forwards(dense)
    assert [site.name for site in found.sites] == ["block_0", "block_1"]
    assert not any(site.causal for site in found.sites)
    assert not found.skipped
    (site,) = find_feed_forwards(case.t5(dropout=0.25)).sites
    assert site.gate is not None
    assert site.dropout_rate == 0.25


def test_the_first_outputs_are_the_dense_models(dense, sparse):
    x = data(2, 4)
    assert_equal_outputs(sparse, dense, [x, ALL])
    real = MASK.astype(bool)
    np.testing.assert_allclose(
        np.asarray(sparse([x, MASK]))[real],
        np.asarray(dense([x, MASK]))[real],
        rtol=1e-5,
        atol=1e-5,
    )
    gated = case.t5()
    assert_equal_outputs(upcycle(gated, 3), gated, [x, ALL])


def test_padding_reaches_no_expert(sparse):
    x = data(2, 4)
    sparse([x, MASK])
    losses = [float(loss) for loss in sparse.losses]
    x[1, 2:] = 1e3  # would be routed otherwise, and move the losses
    sparse([x, MASK])
    assert [float(loss) for loss in sparse.losses] == losses
    assert len(losses) >= 2


def test_blocks_that_look_back_stay_causal():
    model = case.encoder(1, case.CausalLike)
    assert find_feed_forwards(model).sites[0].causal
    assert find_feed_forwards(case.t5(is_decoder=True)).sites[0].causal
    with pytest.raises(ValueError, match="causal"):
        upcycle(model, 2, router="expert_choice")


def test_dropout_is_where_it_was():
    """Within the network it becomes the experts'; after it, it is once."""
    dense = case.t5(dropout=0.5)
    model = upcycle(dense, 2)
    (sparse,) = sparse_layers(model)
    assert sparse.experts.dropout_rate == 0.5
    x = np.ones((64, 4, DIM), "float32")
    for trained in (model, dense):
        out = np.asarray(trained([x, np.ones((64, 4))], training=True)) - 1
        # Half of the outputs are dropped after the network: with dropout twice
        # it would be three quarters.
        assert np.mean(out == 0) == pytest.approx(0.5, abs=0.08)


def test_it_trains_and_saves(dense, tmp_path):
    model = upcycle(dense, 2)
    model.compile("adam", "mse", run_eagerly=True)
    x = data(4, 4)
    history = model.fit([x, np.ones((4, 4))], x, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        again([x, np.ones((4, 4))]), model([x, np.ones((4, 4))])
    )
    assert len(sparse_layers(again)) == 1
    assert "block_0/feedforward" not in str([w.path for w in model.weights])


def test_policies_and_what_was_frozen_are_kept():
    dense = case.encoder(1, dtype="mixed_bfloat16")
    dense.get_layer("block_0").trainable = False
    model = upcycle(dense, 2)
    assert model.get_layer("block_0").dtype_policy.name == "mixed_bfloat16"
    assert model.trainable_weights == []
    x = [data(2, 4), ALL]
    np.testing.assert_allclose(model(x), dense(x), rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: case.encoder(1, regularizer="l2"),
        lambda: keras.Sequential([keras.Input((4, DIM)), case.TwoHidden()]),
    ],
)
def test_blocks_that_compute_otherwise_are_left_alone(make):
    found = find_feed_forwards(make())
    assert not found.sites
    assert "is not known" in str(found.skipped)


def test_a_block_in_a_sequential_model():
    dense = keras.Sequential([keras.Input((4, DIM)), case.EncoderLike()])
    assert_equal_outputs(upcycle(dense, 2), dense, data(2, 4))
