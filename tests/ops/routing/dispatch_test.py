"""Executors of plans, against the arrays that a plan describes itself by."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops import einsum_combine
from keras_moe.ops import einsum_dispatch
from keras_moe.ops import gather_combine
from keras_moe.ops import gather_dispatch
from keras_moe.ops import top_k_routing
from tests.ops.routing.plans_case import DENSE
from tests.ops.routing.plans_case import SPARSE

EXECUTORS = {
    "gather": (gather_dispatch, gather_combine),
    "einsum": (einsum_dispatch, einsum_combine),
}
PAIRS = [("gather", name) for name in SPARSE] + [
    ("einsum", name) for name in SPARSE | DENSE
]


def by_loop(tokens, plan, network):
    """Slots and outputs, in float64, from the plan's arrays."""
    dispatch = np.asarray(plan.dispatch_array(), "float64")
    combine = np.asarray(plan.combine_array(), "float64")
    tokens = np.asarray(tokens, "float64")
    groups, length, experts, slots = dispatch.shape
    seen = np.zeros((groups, experts, slots, tokens.shape[-1]))
    outputs = np.zeros(tokens.shape)
    for g, s, e, c in np.ndindex(groups, length, experts, slots):
        if dispatch[g, s, e, c]:
            seen[g, e, c] += dispatch[g, s, e, c] * tokens[g, s]
    answers = network(seen)
    for g, s, e, c in np.ndindex(groups, length, experts, slots):
        if combine[g, s, e, c]:
            outputs[g, s] += combine[g, s, e, c] * answers[g, e, c]
    return seen, outputs


def arrays(groups, tokens, experts, dim, seed, share=0.7):
    rng = np.random.default_rng(seed)
    return (
        tf.constant(rng.normal(size=(groups, tokens, dim)), tf.float32),
        tf.constant(rng.normal(size=(groups, tokens, experts)), tf.float32),
        tf.constant(rng.normal(size=(1, experts, 1, dim)), tf.float32),
        tf.constant(rng.random((groups, tokens)) < share),
    )


def execute(executor, route, tokens, logits, kernel, capacity, mask):
    dispatch, combine = EXECUTORS[executor]
    plan = route(logits, capacity, mask)
    slots = dispatch(tokens, plan)
    return plan, slots, combine(tf.tanh(slots * kernel), plan)


def gradients(executor, route, *arguments):
    watched = list(arguments[:3])
    with tf.GradientTape() as tape:
        tape.watch(watched)
        _, slots, outputs = execute(executor, route, *arguments)
        # An upstream gradient that differs at every element.
        weight = tf.reshape(
            tf.range(tf.size(outputs), dtype=tf.float32), tf.shape(outputs)
        )
        loss = tf.reduce_sum(tf.sin(weight) * outputs)
        loss = loss + tf.reduce_sum(tf.square(slots))
    found = tape.gradient(loss, watched)
    # Where the weights are fixed the logits get none.
    return [
        tf.zeros_like(x) if g is None else g
        for x, g in zip(watched, found, strict=True)
    ]


@pytest.mark.parametrize(("executor", "kind"), PAIRS)
@given(
    groups=st.integers(1, 2),
    tokens=st.integers(1, 7),
    experts=st.integers(1, 4),
    capacity=st.one_of(st.none(), st.integers(1, 5)),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_equals_the_loop(
    executor, kind, groups, tokens, experts, capacity, padded, seed
):
    route = (SPARSE | DENSE)[kind]
    *values, mask = arrays(groups, tokens, experts, 3, seed)
    mask = mask if padded else None
    plan, slots, outputs = execute(executor, route, *values, capacity, mask)
    kernel = np.asarray(values[2], "float64")
    want_slots, want_outputs = by_loop(
        values[0], plan, lambda x: np.tanh(x * kernel)
    )
    np.testing.assert_allclose(slots, want_slots, atol=1e-6)
    np.testing.assert_allclose(outputs, want_outputs, atol=1e-5)


@pytest.mark.parametrize("kind", SPARSE)
@given(
    groups=st.integers(1, 2),
    tokens=st.integers(1, 7),
    capacity=st.one_of(st.none(), st.integers(1, 5)),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=4)
def test_gradients_are_equal(kind, groups, tokens, capacity, padded, seed):
    *values, mask = arrays(groups, tokens, 3, 3, seed)
    mask = mask if padded else None
    one, other = (
        gradients(executor, SPARSE[kind], *values, capacity, mask)
        for executor in EXECUTORS
    )
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)


@pytest.mark.parametrize(
    ("executor", "kind", "capacity"),
    [
        ("gather", "top_2", 2),
        pytest.param("gather", "top_2", None, marks=pytest.mark.large),
        pytest.param("gather", "expert_choice", 2, marks=pytest.mark.large),
        ("einsum", "top_2", 2),
    ],
)
def test_gradients_are_equal_under_xla(executor, kind, capacity):
    signature = [
        tf.TensorSpec([None, None, 3]),
        tf.TensorSpec([None, None, 4]),
        tf.TensorSpec([1, 4, 1, 3]),
        tf.TensorSpec([None, None], tf.bool),
    ]

    @tf.function(input_signature=signature, jit_compile=True, autograph=False)
    def compiled(*arguments):
        *values, mask = arguments
        return gradients(executor, SPARSE[kind], *values, capacity, mask)

    *values, mask = arrays(2, 7, 4, 3, seed=0)
    expected = gradients("einsum", SPARSE[kind], *values, capacity, mask)
    for left, right in zip(compiled(*values, mask), expected, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("kind", ["top_1", "top_2", "expert_choice"])
def test_dropped_and_padded_tokens_are_exactly_zero(executor, kind):
    tokens, logits, kernel, mask = arrays(2, 12, 3, 4, seed=0)
    plan, _, outputs = execute(
        executor, SPARSE[kind], tokens, logits, kernel, 2, mask
    )
    seats = np.asarray(plan.slot_index)
    unseated = np.all(seats == 3 * 2, axis=-1)
    assert unseated.sum() > (~np.asarray(mask)).sum()  # some were dropped
    assert not np.any(np.asarray(outputs)[unseated])
    assert np.all(np.any(np.asarray(outputs)[~unseated], axis=-1))


@pytest.mark.parametrize("kind", SPARSE)
def test_poison_at_padding_reaches_no_slot(kind):
    tokens, logits, _, mask = arrays(2, 8, 3, 3, seed=1)
    tokens = tf.where(mask[..., None], tokens, np.nan)
    for capacity in (2, 8, None):
        plan = SPARSE[kind](logits, capacity, mask)
        assert np.all(np.isfinite(gather_dispatch(tokens, plan)))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_keeps_the_dtype(executor):
    dispatch, combine = EXECUTORS[executor]
    tokens, logits, _, _ = arrays(1, 6, 2, 3, seed=2)
    plan = top_k_routing(logits, 2, 3)
    for dtype in ("float16", "bfloat16", "float32"):
        slots = dispatch(tf.cast(tokens, dtype), plan)
        assert slots.dtype == dtype
        assert combine(slots, plan).dtype == dtype


def test_second_derivatives():
    # Gradient penalties differentiate the gradient.
    tokens, logits, kernel, mask = arrays(1, 5, 3, 3, seed=3)

    def penalty(executor):
        with tf.GradientTape() as outer:
            outer.watch(tokens)
            with tf.GradientTape() as inner:
                inner.watch(tokens)
                out = execute(
                    executor, SPARSE["top_2"], tokens, logits, kernel, 2, mask
                )[-1]
                loss = tf.reduce_sum(tf.square(out))
            slope = inner.gradient(loss, tokens)
            squared = tf.reduce_sum(tf.square(slope))
        return outer.gradient(squared, tokens)

    np.testing.assert_allclose(penalty("gather"), penalty("einsum"), atol=1e-5)


@pytest.mark.parametrize("step", [gather_dispatch, gather_combine])
def test_gather_refuses_a_soft_plan(step):
    _, logits, _, _ = arrays(1, 4, 2, 3, seed=4)
    plan = DENSE["soft"](logits, 2, None)
    with pytest.raises(ValueError, match="(?i)soft.*einsum"):
        step(tf.zeros((1, 2, 2, 3)), plan)
