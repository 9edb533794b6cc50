"""Beam search on a whole model."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import Greedy
from keras_moe.generation import compile_decoder
from keras_moe.generation import decode
from keras_moe.models import SwitchTransformer
from tests.generation.beam_search_case import beam_search
from tests.reference.beam_search import score

# === On the model ===

KINDS = {
    "softmax": {},
    "rotary": {"position_encoding": "rotary"},
    "random features": {"attention": "random_feature"},
}

# A token takes a pass through all layers, operation by operation.
SIZES = {
    "vocabulary_size": 12,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "moe_every": 1,
}


def talkative(kind="softmax", seed=0, **sizes):
    """A model that says different things and comes to an end."""
    model = SwitchTransformer.from_preset(
        "switch_tiny", **SIZES, **KINDS[kind], **sizes
    )
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            # Attention and experts that outweigh what was said last.
            factor = 1.5 if "embedding" in weight.path else 3.0
            value = weight.numpy()
            weight.assign(
                factor * rng.permutation(value.ravel()).reshape(value.shape)
            )
    return model


def questions(seed=0, batch=12):
    rng = np.random.default_rng(seed)
    source = rng.integers(2, 12, (batch, 5))
    source[1::3, 3:] = 0
    return source.astype("int32")


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("random features", 1),
        *(
            pytest.param(kind, seed, marks=pytest.mark.large)
            for kind, seed in (
                ("softmax", 0),
                ("softmax", 1),
                ("rotary", 0),
                ("rotary", 1),
                ("random features", 0),
            )
        ),
    ],
)
def test_one_beam_is_greedy(kind, seed):
    model, source = talkative(kind, seed), questions(seed)
    expected = decode(model, tf.constant(source), 8, Greedy())
    received = beam_search(model, source, 8, 1, 0.0)
    np.testing.assert_array_equal(received["token_ids"], expected["token_ids"])
    np.testing.assert_allclose(
        received["log_probability"],
        expected["log_probability"],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    "kind",
    ["softmax", "random features"]
    + [pytest.param("rotary", marks=pytest.mark.large)],
)
def test_log_probability_is_what_the_model_says_of_the_answer(kind):
    # All at once: no cache could have been taken from another beam.
    model, source = talkative(kind), questions()
    received = beam_search(model, source, 8, 4, 1.0)
    ids = received["token_ids"].numpy()
    greedy = beam_search(model, source, 8, 1, 0.0)["token_ids"].numpy()
    assert np.sum(np.any(ids != greedy, axis=1)) > 3
    logits = model(
        {
            "encoder_token_ids": source,
            "decoder_token_ids": np.pad(ids, ((0, 0), (1, 0)))[:, :-1],
        }
    )
    logits = tf.where(tf.range(12) == 0, -1e9, logits)
    log_p = tf.gather(tf.nn.log_softmax(logits), ids, batch_dims=2)
    log_p = np.where(ids > 0, log_p, 0.0).sum(axis=1)
    np.testing.assert_allclose(
        received["log_probability"], log_p, rtol=1e-3, atol=1e-3
    )
    lengths = (ids > 0).sum(axis=1)
    np.testing.assert_allclose(
        received["score"],
        score(received["log_probability"].numpy(), lengths, 1.0),
        rtol=1e-5,
    )


def test_does_not_look_at_the_neighbours():
    model, source = talkative(), questions()
    together = beam_search(model, source, 6, 3)["token_ids"]
    for row in (0, 7):
        padded = np.pad(source[row : row + 1], ((0, 2), (0, 2)))
        alone = beam_search(model, padded, 6, 3)["token_ids"]
        np.testing.assert_array_equal(alone[0], together[row])


def test_in_a_graph():
    model, source = talkative(num_experts=0), tf.constant(questions())
    search = compile_decoder(model, 6, BeamSearch(3))
    received, expected = search(source), beam_search(model, source, 6, 3)
    np.testing.assert_array_equal(received["token_ids"], expected["token_ids"])
    np.testing.assert_allclose(received["score"], expected["score"], rtol=1e-3)
    graph = search.get_concrete_function().graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    for function in graph.library.function:
        kinds |= {node.op for node in function.node_def}
    assert not any("Assign" in kind for kind in kinds)
    assert "MatMul" in kinds or "BatchMatMulV2" in kinds


def test_leaves_the_model_as_it_was():
    model = talkative()
    before = [variable.numpy() for variable in model.variables]
    beam_search(model, questions(), 4, 2)
    assert not model.losses
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
