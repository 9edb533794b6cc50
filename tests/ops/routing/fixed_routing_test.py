import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import fixed_routing
from tests.ops.routing.routing_case import check_plan
from tests.ops.routing.routing_case import padding
from tests.reference.top_k import Ask
from tests.reference.top_k import seat


def by_loop(index, experts, capacity, mask):
    seats, asks = [], []
    groups, tokens, k = index.shape
    for g in range(groups):
        asks.append(
            [
                Ask(s, rank, int(index[g, s, rank]), 1 / k, 1 / k, 1 / k)
                for s in range(tokens)
                if mask is None or mask[g, s]
                for rank in range(k)
            ]
        )
        seats.append(seat(asks[-1], experts, capacity))
    return seats, asks


@given(
    groups=st.integers(1, 2),
    tokens=st.integers(1, 8),
    experts=st.integers(1, 5),
    k=st.integers(1, 3),
    capacity=st.one_of(st.none(), st.integers(1, 9)),
    share=st.sampled_from([None, 0.0, 0.6]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(groups, tokens, experts, k, capacity, share, seed):
    rng = np.random.default_rng(seed)
    k = min(k, experts)
    index = rng.random((groups, tokens, experts)).argsort(-1)[..., :k]
    mask = padding(groups, tokens, rng, share)
    plan = fixed_routing(index, experts, capacity, mask)
    seats, asks = by_loop(index, experts, capacity, mask)
    check_plan(plan, None, seats, capacity, asks)
    onehot = np.eye(experts)[index].mean(2)
    real = np.ones((groups, tokens), bool) if mask is None else mask
    np.testing.assert_allclose(
        np.asarray(plan.probabilities)[real], onehot[real], rtol=1e-6
    )


def test_one_choice_needs_no_axis():
    index = np.array([[2, 0, 2, 1]])
    one = fixed_routing(index, 3, 1)
    same = fixed_routing(index[..., None], 3, 1)
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(one.token_index, [[[1], [3], [0]]])
    np.testing.assert_array_equal(one.combine_weight, np.ones((1, 3, 1)))


@pytest.mark.parametrize("jit", [False, True])
def test_unknown_shapes_in_a_graph(jit):
    signature = [tf.TensorSpec([None, None], tf.int32)]

    @tf.function(input_signature=signature, jit_compile=jit, autograph=False)
    def route(index):
        return fixed_routing(index, 3, 2)

    for index in ([[0, 0, 0, 2]], [[1, 2], [2, 2]]):
        index = np.array(index)
        seats, asks = by_loop(index[..., None], 3, 2, None)
        check_plan(route(index), None, seats, 2, asks)


@pytest.mark.parametrize("shape", [(1, 0), (0, 3), (0, 3, 2)])
def test_nothing_to_route(shape):
    plan = fixed_routing(np.zeros(shape, "int32"), 4)
    assert plan.token_index.shape[:2] == (shape[0], 4)
    assert not np.any(plan.combine_weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expert_index": np.zeros(3, int)}, r"`expert_index`.*\(3,\)"),
        ({"num_experts": 0}, "num_experts=0"),
        ({"expert_capacity": 0}, "expert_capacity=0"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    given = {"expert_index": np.zeros((1, 3), int), "num_experts": 2}
    with pytest.raises(ValueError, match=message):
        fixed_routing(**{**given, **arguments})


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_index_that_is_no_experts_takes_no_slot(wrong):
    index = np.array([[0, wrong, 1], [1, 0, 1]])
    with pytest.raises(ValueError, match="numbers from 0 to 1, or 2 for"):
        fixed_routing(index, 2)
    received = tf.function(fixed_routing, autograph=False)(
        tf.constant(index), 2
    )
    expected = fixed_routing(np.where(index == wrong, 2, index), 2)
    for mine, theirs in zip(received, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
