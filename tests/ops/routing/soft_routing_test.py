import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import soft_routing
from tests.ops.routing.routing_case import padding
from tests.reference import soft


def check(plan, logits, mask=None):
    for g, rows in enumerate(logits):
        dispatch, combine = soft.route(rows, None if mask is None else mask[g])
        for received, expected in (
            (plan.dispatch_weight, dispatch),
            (plan.dispatch_array(), dispatch),
            (plan.combine_weight, combine),
            (plan.combine_array(), combine),
            (plan.probabilities, combine.sum(-1)),
        ):
            assert received.dtype == "float32"
            np.testing.assert_allclose(
                received[g], expected, rtol=1e-5, atol=1e-7
            )


@given(
    groups=st.integers(1, 2),
    tokens=st.integers(1, 6),
    experts=st.integers(1, 4),
    slots=st.integers(1, 3),
    share=st.sampled_from([None, 0.0, 0.6]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(groups, tokens, experts, slots, share, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(groups, tokens, experts, slots)) * 2
    mask = padding(groups, tokens, rng, share)
    check(soft_routing(logits.astype("float32"), mask), logits, mask)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
def test_padding_weighs_nothing(poison):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 3, 2)).astype("float32")
    mask = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    loud = np.where(mask[..., None, None], logits, np.float32(poison))
    with tf.GradientTape() as tape:
        x = tf.constant(loud)
        tape.watch(x)
        plan = soft_routing(x, mask)
        loss = tf.reduce_sum(tf.sin(3 * plan.dispatch_weight))
        loss += tf.reduce_sum(tf.cos(2 * plan.combine_weight))
    check(plan, logits, mask)
    for weights in (plan.dispatch_weight, plan.combine_weight):
        assert not np.any(np.asarray(weights)[~mask])
    gradient = np.asarray(tape.gradient(loss, x))
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[~mask])
    assert np.all(np.any(gradient[mask], axis=(1, 2)))


def test_very_low_scores_of_real_tokens_still_sum_to_one():
    logits = np.full((1, 3, 2, 1), -3e9, "float32")
    mask = np.array([[True, True, False]])
    plan = soft_routing(logits, mask)
    np.testing.assert_allclose(
        np.asarray(plan.dispatch_weight).sum(1), np.ones((1, 2, 1))
    )


def test_the_gradient_equals_finite_differences():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, 4, 2, 2))
    mask = np.array([[True, True, False, True]])
    left, right = rng.normal(size=(2, 1, 4, 2, 2))

    def loss(x):
        dispatch, combine = soft.route(x[0], mask[0])
        return np.sum(dispatch * left[0]) + np.sum(combine * right[0])

    with tf.GradientTape() as tape:
        x = tf.constant(logits, tf.float32)
        tape.watch(x)
        plan = soft_routing(x, mask)
        value = tf.reduce_sum(plan.dispatch_weight * left.astype("float32"))
        value += tf.reduce_sum(plan.combine_weight * right.astype("float32"))
    gradient = np.asarray(tape.gradient(value, x))
    for index in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        slope = (loss(logits + step) - loss(logits - step)) / 2e-5
        assert gradient[index] == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_unknown_shapes_in_a_graph(jit):
    signature = [
        tf.TensorSpec([None, None, 3, 2]),
        tf.TensorSpec([None, None], tf.bool),
    ]
    route = tf.function(
        soft_routing,
        input_signature=signature,
        jit_compile=jit,
        autograph=False,
    )
    rng = np.random.default_rng(2)
    for shape in ((1, 4), (2, 3)):
        logits = rng.normal(size=(*shape, 3, 2)).astype("float32")
        mask = padding(*shape, rng, 0.7)
        check(route(logits, mask), logits, mask)


def test_nothing_to_route():
    for shape in ((0, 3, 2, 1), (1, 0, 2, 1)):
        plan = soft_routing(np.zeros(shape, "float32"))
        assert plan.combine_array().shape == shape


def test_refuses_scores_of_another_rank():
    with pytest.raises(ValueError, match=r"`logits`.*\(1, 2, 3\)"):
        soft_routing(np.zeros((1, 2, 3)))
