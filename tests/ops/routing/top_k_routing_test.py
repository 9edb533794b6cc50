"""Switch routing: one choice a token, and the plan's own promises."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops import top_k_routing
from tests.covering import covering
from tests.ops.routing.routing_case import check_plan
from tests.ops.routing.routing_case import padding
from tests.ops.routing.routing_case import scores
from tests.reference import top_k


def check(plan, logits, capacity, mask=None):
    groups = [
        top_k.route(logits[g], 1, capacity, None if mask is None else mask[g])
        for g in range(len(logits))
    ]
    seats, asks = zip(*groups, strict=True)
    check_plan(plan, logits, seats, capacity, asks, mask)


@given(
    groups=st.integers(1, 3),
    tokens=st.integers(1, 12),
    experts=st.integers(1, 5),
    slots=st.one_of(st.none(), st.integers(1, 14)),
    share=st.sampled_from([None, 0.0, 0.5, 0.9]),
    ties=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(max_examples=40)
def test_equals_the_loop(groups, tokens, experts, slots, share, ties, seed):
    rng = np.random.default_rng(seed)
    logits = scores(groups, tokens, experts, rng, ties)
    mask = padding(groups, tokens, rng, share)
    check(top_k_routing(logits, 1, slots, mask), logits, slots, mask)


def test_dropless_is_as_long_as_the_longest_queue():
    logits = np.zeros((2, 6, 3), "float32")
    logits[1, :4, 2] = 1.0  # group 0 sends all six to expert 0
    plan = top_k_routing(logits, 1, None)
    assert plan.token_index.shape == (2, 3, 6)
    check(plan, logits, None)
    one = top_k_routing(logits[:, :1], 1, None)
    assert one.token_index.shape == (2, 3, 1)


def test_slot_zero_is_used_and_the_first_come_win():
    # The demand that the copied example gets wrong: [2, 6, 8, 0], 4 slots.
    experts = np.repeat([0, 1, 2], [2, 6, 8])
    experts = np.random.default_rng(0).permutation(experts)
    logits = np.eye(4, dtype="float32")[experts][None] * 5
    plan = top_k_routing(logits, 1, 4)
    filled = (np.asarray(plan.token_index)[0] < 16).sum(axis=-1)
    np.testing.assert_array_equal(filled, [2, 4, 4, 0])
    for e, taken in ((1, 4), (2, 4)):
        np.testing.assert_array_equal(
            plan.token_index[0, e], np.flatnonzero(experts == e)[:taken]
        )


@pytest.mark.parametrize("jit", [False, True])
def test_ties_go_to_the_lowest_expert(jit):
    logits = np.zeros((1, 5, 4), "float32")
    logits[0, 3] = [0, 2, 1, 2]
    plan = tf.function(top_k_routing, jit_compile=jit)(
        tf.constant(logits), 1, 5
    )
    check(plan, logits, 5)


@pytest.mark.parametrize("k", [1, 2])
def test_close_logits_are_told_apart(k):
    # Their softmax rounds to the same float32; the second is the larger.
    logits = np.array([[[100.0, np.nextafter(np.float32(100), 101)]]], "f")
    plan = top_k_routing(logits, k, 1)
    np.testing.assert_array_equal(plan.expert_index, [[[1, 0][:k]]])


@pytest.mark.parametrize("jit", [False, True])
def test_capacity_may_be_a_tensor(jit):
    signature = [tf.TensorSpec([None, None, 3])]

    @tf.function(input_signature=signature, jit_compile=jit, autograph=False)
    def route(logits):
        return top_k_routing(logits, 1, tf.shape(logits)[1] // 2)

    rng = np.random.default_rng(1)
    for groups, tokens in ((1, 4), (3, 9)):
        logits = scores(groups, tokens, 3, rng)
        check(route(logits), logits, tokens // 2)


def test_lists_will_do():
    plan = top_k_routing([[[2.0, 0.0], [0.0, 1.0]]], 1, 1, [[True, False]])
    np.testing.assert_array_equal(plan.token_index, [[[0], [2]]])


def test_all_padding():
    logits = np.ones((2, 3, 4), "float32")
    mask = np.zeros((2, 3), bool)
    check(top_k_routing(logits, 1, None, mask), logits, None, mask)


def test_a_mask_of_numbers_will_do():
    logits = np.zeros((1, 3, 2), "float32")
    plan = top_k_routing(logits, 1, 3, np.array([[1, 0, 1]]))
    np.testing.assert_array_equal(plan.token_index[0, 0], [0, 2, 3])


def by_matrix(plan, logits, asks, normalization):
    """The weights as a function of the logits, `[g, s, e]`, by dense sums."""
    probabilities = tf.nn.softmax(logits)
    seated = tf.reduce_any(plan.dispatch_mask(), axis=-1)
    weights = tf.where(seated, probabilities, 0.0)
    if normalization == "before_drop":
        chosen = np.zeros(logits.shape, "float32")
        for g, group in enumerate(asks):
            for ask in group:
                chosen[g, ask.token, ask.expert] = 1.0
        total = tf.reduce_sum(probabilities * chosen, axis=-1, keepdims=True)
        return weights / total
    if normalization == "after_drop":
        return tf.math.divide_no_nan(
            weights, tf.reduce_sum(weights, axis=-1, keepdims=True)
        )
    return weights


@pytest.mark.parametrize(
    ("normalization", "priority", "policy", "k"),
    covering(
        ["none", "before_drop", "after_drop"],
        ["choice_major", "batch_prioritized", "gate_prioritized"],
        ["all", "threshold"],
        [1, 3],
    ),
)
def test_gradient_is_that_of_the_weights(k, normalization, priority, policy):
    rng = np.random.default_rng(3)
    logits = tf.constant(scores(2, 7, 4, rng))
    upstream = rng.normal(size=(2, 4, 3)).astype("float32")
    # Every choice: the sum before the drop has the refused ones, too.
    asks = [top_k.choices(rows.numpy(), k) for rows in logits]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        plan = top_k_routing(
            logits,
            k,
            3,
            normalization=normalization,
            priority=priority,
            second_expert_policy=policy,
            second_expert_threshold=0.3,
        )
        loss = tf.reduce_sum(plan.combine_weight * upstream)
        slow = tf.einsum(
            "gse,gsec,gec->",
            by_matrix(plan, logits, asks, normalization),
            plan.dispatch_array(),
            upstream,
        )
    np.testing.assert_allclose(loss, slow, rtol=1e-5)
    gradient = tape.gradient(loss, logits)
    if k == 1 and normalization != "none":
        # A lone choice weighs 1, whatever the logits.
        np.testing.assert_allclose(gradient, np.zeros((2, 7, 4)), atol=1e-6)
    else:
        assert np.any(gradient)
    np.testing.assert_allclose(gradient, tape.gradient(slow, logits), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": np.zeros((3, 4))}, r"`logits`.*\(3, 4\)"),
        ({"num_selected_experts": 0}, "num_selected_experts=0"),
        ({"expert_capacity": 0}, "expert_capacity=0"),
        ({"expert_capacity": -3}, "expert_capacity=-3"),
        ({"expert_capacity": np.int64(0)}, "expert_capacity=0"),
        ({"expert_capacity": 2.5}, "expert_capacity=2.5"),
        ({"num_selected_experts": 1.5}, "num_selected_experts=1.5"),
        ({"padding_mask": np.ones((1, 4))}, r"`padding_mask`.*\(1, 4\)"),
        ({"padding_mask": np.ones(3)}, r"`padding_mask`.*\(3,\)"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        top_k_routing(**{"logits": np.zeros((1, 3, 4)), **arguments})
