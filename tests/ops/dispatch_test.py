import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import gather_combine
from keras_moe.ops import gather_dispatch
from keras_moe.ops import top_k_routing


def by_gather(tokens, logits, kernel, capacity, mask):
    plan = top_k_routing(logits, 1, capacity, mask)
    slots = gather_dispatch(tokens, plan)
    return slots, gather_combine(tf.tanh(slots * kernel), plan)


def by_einsum(tokens, logits, kernel, capacity, mask):
    plan = top_k_routing(logits, 1, capacity, mask)
    dispatch = tf.cast(plan.dispatch_mask(), tokens.dtype)
    slots = tf.einsum("gsec,gsd->gecd", dispatch, tokens)
    # The gate's gradient by way of the softmax, not of the plan's table.
    combine = tf.einsum("gsec,gse->gsec", dispatch, tf.nn.softmax(logits))
    outputs = tf.tanh(slots * kernel)
    return slots, tf.einsum("gsec,gecd->gsd", combine, outputs)


def with_gradients(function, tokens, logits, kernel, capacity, mask):
    watched = [tokens, logits, kernel]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        slots, outputs = function(tokens, logits, kernel, capacity, mask)
        # An upstream gradient that differs at every element.
        weight = tf.reshape(
            tf.range(tf.size(outputs), dtype=tf.float32), tf.shape(outputs)
        )
        loss = tf.reduce_sum(tf.sin(weight) * outputs)
        loss = loss + tf.reduce_sum(tf.square(slots))
    return slots, outputs, *tape.gradient(loss, watched)


def arrays(groups, tokens, experts, dim, seed, share=0.7):
    rng = np.random.default_rng(seed)
    return (
        tf.constant(rng.normal(size=(groups, tokens, dim)), tf.float32),
        tf.constant(rng.normal(size=(groups, tokens, experts)), tf.float32),
        tf.constant(rng.normal(size=(1, experts, 1, dim)), tf.float32),
        tf.constant(rng.random((groups, tokens)) < share),
    )


@given(
    groups=st.integers(1, 3),
    tokens=st.integers(1, 9),
    experts=st.integers(1, 4),
    capacity=st.one_of(st.none(), st.integers(1, 5)),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_the_einsum(groups, tokens, experts, capacity, padded, seed):
    *values, mask = arrays(groups, tokens, experts, 3, seed)
    mask = mask if padded else None
    received = with_gradients(by_gather, *values, capacity, mask)
    expected = with_gradients(by_einsum, *values, capacity, mask)
    for left, right in zip(received, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize("capacity", [2, None])
def test_equals_the_einsum_under_xla(capacity):
    signature = [
        tf.TensorSpec([None, None, 3]),
        tf.TensorSpec([None, None, 4]),
        tf.TensorSpec([1, 4, 1, 3]),
        tf.TensorSpec([None, None], tf.bool),
    ]

    @tf.function(input_signature=signature, jit_compile=True)
    def compiled(tokens, logits, kernel, mask):
        return with_gradients(by_gather, tokens, logits, kernel, capacity, mask)

    for groups, tokens in ((1, 5), (2, 8)):
        *values, mask = arrays(groups, tokens, 4, 3, seed=tokens)
        received = list(compiled(*values, mask))
        expected = with_gradients(by_einsum, *values, capacity, mask)
        if capacity is None:
            # XLA's table is as long as the group; the rest of it is empty.
            filled = expected[0].shape[2]
            assert not np.any(received[0][:, :, filled:])
            received[0] = received[0][:, :, :filled]
        for left, right in zip(received, expected, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-5)


def test_dropped_and_padded_tokens_are_exactly_zero():
    tokens, logits, kernel, mask = arrays(2, 12, 3, 4, seed=0)
    _, outputs = by_gather(tokens, logits, kernel, 2, mask)
    seats = top_k_routing(logits, 1, 2, mask).slot_index
    unseated = np.asarray(seats)[..., 0] == 3 * 2
    assert unseated.sum() > (~np.asarray(mask)).sum()  # some were dropped
    assert not np.any(np.asarray(outputs)[unseated])
    assert np.all(np.any(np.asarray(outputs)[~unseated], axis=-1))


def test_poison_at_padding_reaches_no_slot():
    tokens, logits, _, mask = arrays(1, 8, 2, 3, seed=1)
    tokens = tf.where(mask[..., None], tokens, np.nan)
    for capacity in (2, 8, None):
        plan = top_k_routing(logits, 1, capacity, mask)
        assert np.all(np.isfinite(gather_dispatch(tokens, plan)))


def test_keeps_the_dtype():
    tokens, logits, _, _ = arrays(1, 6, 2, 3, seed=2)
    plan = top_k_routing(logits, 1, 3)
    for dtype in ("float16", "bfloat16", "float32"):
        slots = gather_dispatch(tf.cast(tokens, dtype), plan)
        assert slots.dtype == dtype
        assert gather_combine(slots, plan).dtype == dtype


def test_second_derivatives():
    # Gradient penalties differentiate the gradient.
    tokens, logits, kernel, mask = arrays(1, 5, 2, 3, seed=3)

    def penalty(function):
        with tf.GradientTape() as outer:
            outer.watch(tokens)
            with tf.GradientTape() as inner:
                inner.watch(tokens)
                _, out = function(tokens, logits, kernel, 2, mask)
                loss = tf.reduce_sum(tf.square(out))
            slope = inner.gradient(loss, tokens)
            squared = tf.reduce_sum(tf.square(slope))
        return outer.gradient(squared, tokens)

    np.testing.assert_allclose(
        penalty(by_gather), penalty(by_einsum), atol=1e-5
    )
