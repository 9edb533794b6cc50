import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops import top_k_routing
from tests.reference import switch_moe


def check(plan, logits, capacity, mask=None):
    """Asserts that the plan is the reference's, table by table."""
    groups, tokens, experts = logits.shape
    table, weights, seats = (
        np.asarray(plan.token_index),
        np.asarray(plan.combine_weight),
        np.asarray(plan.slot_index),
    )
    slots = table.shape[2]
    if capacity is not None:
        assert slots == capacity
    assert table.shape == weights.shape == (groups, experts, slots)
    assert seats.shape == (groups, tokens, 1)
    want_table = np.full((groups, experts, slots), tokens)
    want_weights = np.zeros((groups, experts, slots))
    want_seats = np.full((groups, tokens, 1), experts * slots)
    for g in range(groups):
        rows = None if mask is None else mask[g]
        for seat in switch_moe.route_group(logits[g], capacity, rows):
            want_table[g, seat.expert, seat.slot] = seat.token
            want_weights[g, seat.expert, seat.slot] = seat.gate
            want_seats[g, seat.token] = seat.expert * slots + seat.slot
    np.testing.assert_array_equal(table, want_table)
    np.testing.assert_allclose(weights, want_weights, rtol=1e-5)
    np.testing.assert_array_equal(seats, want_seats)
    assert plan.token_index.dtype == plan.slot_index.dtype == "int32"
    assert plan.combine_weight.dtype == plan.probabilities.dtype == "float32"

    dispatch = np.asarray(plan.dispatch_mask())
    assert dispatch.dtype == bool
    assert dispatch.shape == (groups, tokens, experts, slots)
    for g, s, e, c in np.ndindex(*dispatch.shape):
        assert dispatch[g, s, e, c] == (want_table[g, e, c] == s)
    assert dispatch.sum((2, 3)).max(initial=0) <= 1  # one slot a token
    assert dispatch.sum(1).max(initial=0) <= 1  # one token a slot
    np.testing.assert_allclose(
        plan.combine_array(), dispatch * want_weights[:, None], rtol=1e-5
    )


@st.composite
def cases(draw):
    groups = draw(st.integers(1, 3))
    tokens = draw(st.integers(1, 12))
    experts = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    logits = rng.normal(size=(groups, tokens, experts)).astype("float32")
    if draw(st.booleans()):  # many ties
        logits = np.round(logits)
    mask = None
    if draw(st.booleans()):
        mask = rng.random((groups, tokens)) < draw(
            st.sampled_from([0.0, 0.5, 0.9])
        )
    capacity = draw(st.one_of(st.none(), st.integers(1, tokens + 2)))
    return logits, capacity, mask


@given(cases())
@settings(max_examples=40)
def test_equals_the_loop(case):
    logits, capacity, mask = case
    check(top_k_routing(logits, 1, capacity, mask), logits, capacity, mask)


@given(cases())
def test_padding_has_no_say(case):
    logits, capacity, mask = case
    if mask is None:
        mask = np.arange(logits.shape[1])[None] % 2 == np.zeros(
            (len(logits), 1)
        )
    loud = np.where(mask[..., None], logits, -1e30 * np.sign(logits))
    for received in (logits, loud):
        plan = top_k_routing(received.astype("float32"), 1, capacity, mask)
        check(plan, logits, capacity, mask)


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


def test_close_logits_are_told_apart():
    # Their softmax rounds to the same float32; the second is the larger.
    logits = np.array([[[100.0, np.nextafter(np.float32(100), 101)]]], "f")
    assert int(top_k_routing(logits, 1, 1).slot_index[0, 0, 0]) == 1


@pytest.mark.parametrize("capacity", [2, None, "tensor"])
@pytest.mark.parametrize("jit", [False, True])
def test_unknown_shapes_in_a_graph(capacity, jit):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3]),
            tf.TensorSpec([None, None], tf.bool),
        ],
        jit_compile=jit,
    )
    def route(logits, mask):
        slots = tf.shape(logits)[1] // 2 if capacity == "tensor" else capacity
        plan = top_k_routing(logits, 1, slots, mask)
        return plan, plan.combine_array()

    rng = np.random.default_rng(1)
    for groups, tokens in ((1, 4), (3, 9)):
        logits = rng.normal(size=(groups, tokens, 3)).astype("float32")
        mask = rng.random((groups, tokens)) < 0.7
        plan, combine = route(logits, mask)
        slots = tokens // 2 if capacity == "tensor" else capacity
        check(plan, logits, slots, mask)
        np.testing.assert_allclose(combine, plan.combine_array(), rtol=1e-6)


@pytest.mark.parametrize("capacity", [3, None])
@pytest.mark.parametrize("shape", [(1, 0, 4), (0, 5, 4), (0, 0, 4)])
def test_nothing_to_route(capacity, shape):
    logits = np.zeros(shape, "float32")
    for mask in (None, np.zeros(shape[:2], bool)):
        plan = top_k_routing(logits, 1, capacity, mask)
        assert plan.probabilities.shape == shape
        assert plan.slot_index.shape == (*shape[:2], 1)
        assert plan.token_index.shape[:2] == (shape[0], 4)
        assert np.all(np.asarray(plan.token_index) == shape[1])
        assert not np.any(plan.combine_weight)


def test_all_padding():
    logits = np.ones((2, 3, 4), "float32")
    mask = np.zeros((2, 3), bool)
    check(top_k_routing(logits, 1, None, mask), logits, None, mask)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_computes_in_float32(dtype):
    rng = np.random.default_rng(2)
    logits = keras.ops.cast(rng.normal(size=(1, 9, 4)), dtype)
    exact = np.asarray(keras.ops.cast(logits, "float32"))
    check(top_k_routing(logits, 1, 2), exact, 2)


def test_numbers_may_be_lists_of_masks():
    logits = np.zeros((1, 3, 2), "float32")
    plan = top_k_routing(logits, 1, 3, np.array([[1, 0, 1]]))
    np.testing.assert_array_equal(plan.token_index[0, 0], [0, 2, 3])


def test_gradient_is_that_of_the_kept_gates():
    rng = np.random.default_rng(3)
    logits = tf.constant(rng.normal(size=(2, 7, 3)), tf.float32)
    upstream = rng.normal(size=(2, 3, 2)).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        plan = top_k_routing(logits, 1, 2)
        gate = tf.reduce_sum(plan.combine_weight * upstream)
        # [g, s, e, c] . [g, e, c]: the same sum by way of the probabilities.
        probabilities = tf.nn.softmax(logits)
        slow = tf.einsum(
            "gse,gsec,gec->",
            probabilities,
            tf.cast(plan.dispatch_mask(), "float32"),
            upstream,
        )
    np.testing.assert_allclose(gate, slow, rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(gate, logits), tape.gradient(slow, logits), atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": np.zeros((3, 4))}, r"`logits`.*\(3, 4\)"),
        ({"num_selected_experts": 2}, "num_selected_experts=2"),
        ({"num_selected_experts": 0}, "num_selected_experts=0"),
        ({"expert_capacity": 0}, "expert_capacity=0"),
        ({"expert_capacity": -3}, "expert_capacity=-3"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        top_k_routing(**{"logits": np.zeros((1, 3, 4)), **arguments})
