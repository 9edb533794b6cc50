"""Equal tokens take slots in order of position, whatever the shape."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops import expert_choice_routing
from keras_moe.ops import top_k_routing
from keras_moe.ops.routing import _ranking

SHAPES = {
    "tokens": st.integers(1, 70),
    "experts": st.integers(1, 9),
    "padding": st.integers(0, 20),
    "seed": st.integers(0, 999),
}


def equal_tokens(tokens, experts, padding, seed):
    row = np.random.default_rng(seed).normal(size=(1, 1, experts))
    logits = np.tile(row, (1, tokens + padding, 1)).astype("float32")
    return logits, np.arange(tokens + padding)[None] < tokens


@pytest.mark.parametrize("softmax_over", ["experts", "tokens"])
@given(**SHAPES)
@settings(max_examples=30)
def test_experts_choose_the_first(softmax_over, **shape):
    logits, mask = equal_tokens(**shape)
    capacity = min(3, shape["tokens"])
    plan = expert_choice_routing(
        logits, capacity, mask, softmax_over=softmax_over
    )
    expected = np.tile(np.arange(capacity), (1, shape["experts"], 1))
    np.testing.assert_array_equal(plan.token_index, expected)


@pytest.mark.parametrize("priority", ["batch_prioritized", "gate_prioritized"])
@given(**SHAPES)
@settings(max_examples=30)
def test_the_first_take_slots_first(priority, **shape):
    logits, mask = equal_tokens(**shape)
    plan = top_k_routing(logits, 1, 3, mask, priority=priority)
    best = int(np.argmax(logits[0, 0]))
    expected = np.arange(3)
    expected[shape["tokens"] :] = len(mask[0])
    np.testing.assert_array_equal(plan.token_index[0, best], expected)


def test_a_bias_breaks_no_tie_of_experts():
    for experts in range(2, 40):
        plan = top_k_routing(
            np.zeros((1, 7, experts)), 1, selection_bias=np.zeros(experts)
        )
        assert not np.any(plan.expert_index)


@pytest.mark.parametrize("accelerator", ["CPU", "TPU"])
def test_tpus_see_no_float64(accelerator, monkeypatch):
    monkeypatch.setattr(_ranking, "accelerator", lambda: accelerator)
    logits = np.random.normal(size=(2, 9, 5)).astype("float32")
    rank = tf.function(
        _ranking.ranking_probabilities, jit_compile=True, autograph=False
    )
    graph = rank.get_concrete_function(tf.constant(logits)).graph
    dtypes = {x.dtype for op in graph.get_operations() for x in op.outputs}
    assert (tf.float64 in dtypes) == (accelerator == "CPU")
    mass = np.exp(logits)
    expected = mass / mass.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(rank(logits), expected, rtol=1e-5)
