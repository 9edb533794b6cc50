"""k choices, with every normalisation, order and policy."""

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
from tests.ops.routing.top_k_case import NORMALIZATIONS
from tests.ops.routing.top_k_case import PRIORITIES
from tests.ops.routing.top_k_case import by_loop
from tests.ops.routing.top_k_case import cases


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("policy", ["all", "none", "threshold"])
@given(case=cases(), threshold=st.sampled_from([0.1, 0.33]))
@settings(max_examples=10)
def test_equals_the_loop(priority, policy, case, threshold):
    logits, k, capacity, mask, normalization = case
    plan = top_k_routing(
        logits,
        k,
        capacity,
        mask,
        normalization=normalization,
        priority=priority,
        second_expert_policy=policy,
        second_expert_threshold=threshold,
    )
    seats, asks = by_loop(
        logits,
        k,
        capacity,
        mask,
        normalization=normalization,
        priority=priority,
        policy=policy,
        threshold=threshold,
    )
    check_plan(plan, logits, seats, capacity, asks, mask)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_weights_sum_to_what_the_normalisation_says(k, normalization):
    rng = np.random.default_rng(k)
    logits = scores(1, 12, 4, rng)
    plan = top_k_routing(logits, k, 3, normalization=normalization)
    sums = np.asarray(plan.combine_array()).sum((2, 3))[0]
    kept = (np.asarray(plan.slot_index)[0] < 4 * 3).sum(-1)
    assert np.any(kept == 0) and np.any((0 < kept) & (kept <= k))
    if normalization == "after_drop":
        np.testing.assert_allclose(sums, kept > 0, rtol=1e-6)
    elif normalization == "before_drop":
        np.testing.assert_allclose(sums[kept == k], 1.0, rtol=1e-6)
        assert np.all(sums[kept < k] < 1.0)
    else:
        assert np.all(sums < 1.0)


@pytest.mark.parametrize("policy", ["none", "threshold", "random"])
@pytest.mark.parametrize("normalization", ["none", "before_drop"])
def test_a_refused_second_choice_leaves_the_first_alone(policy, normalization):
    logits = scores(1, 20, 4, np.random.default_rng(1))

    def first_weights(policy):
        plan = top_k_routing(
            logits,
            2,
            normalization=normalization,
            second_expert_policy=policy,
            second_expert_threshold=0.45,
            seed=0,
        )
        flat = np.asarray(plan.combine_weight).ravel()
        return flat[np.asarray(plan.slot_index)[0, :, 0]]

    np.testing.assert_allclose(
        first_weights(policy), first_weights("all"), rtol=1e-6
    )


def test_known_cases_of_priority():
    # Gates: token 0 (.6, .4), token 1 (.9, .1), token 2 (.3, .7); one slot.
    logits = np.log(np.float32([[[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]]]))
    winners = {
        "choice_major": [[0], [2]],
        "token_major": [[0], [0]],
        "batch_prioritized": [[1], [2]],
        "gate_prioritized": [[1], [2]],
    }
    for priority, expected in winners.items():
        plan = top_k_routing(logits, 2, 1, priority=priority)
        np.testing.assert_array_equal(plan.token_index[0], expected)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_zeros_of_both_signs_tie(k):
    logits = np.float32([[[-0.0, 0.0, -0.0, 0.0], [-1.0, -0.0, 0.0, -1.0]]])
    plan = top_k_routing(logits, k)
    expected = [[[0, 1, 2, 3], [1, 2, 0, 3]]]
    np.testing.assert_array_equal(
        plan.expert_index, np.array(expected)[..., :k]
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_computes_in_float32(dtype):
    rng = np.random.default_rng(2)
    logits = tf.cast(rng.normal(size=(1, 9, 4)), dtype)
    exact = np.asarray(tf.cast(logits, "float32"))
    plan = top_k_routing(logits, 2, 3, normalization="before_drop")
    seats, asks = by_loop(exact, 2, 3, None, normalization="before_drop")
    check_plan(plan, exact, seats, 3, asks)


@pytest.mark.parametrize(
    ("capacity", "shape", "priority"),
    covering([3, None], [(1, 0, 4), (0, 5, 4), (0, 0, 4)], PRIORITIES),
)
def test_nothing_to_route(capacity, shape, priority):
    logits = np.zeros(shape, "float32")
    for mask in (None, np.zeros(shape[:2], bool)):
        plan = top_k_routing(
            logits,
            2,
            capacity,
            mask,
            normalization="after_drop",
            priority=priority,
        )
        assert plan.probabilities.shape == shape
        assert plan.slot_index.shape == (*shape[:2], 2)
        assert plan.expert_index.shape == (*shape[:2], 2)
        assert plan.token_index.shape[:2] == (shape[0], 4)
        assert np.all(np.asarray(plan.token_index) == shape[1])
        assert not np.any(plan.combine_weight)


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padding_has_no_say(priority, normalization):
    rng = np.random.default_rng(5)
    logits, mask = scores(2, 8, 4, rng), padding(2, 8, rng, 0.6)
    for poison in (1e30, -1e30, np.nan, np.inf):
        loud = np.where(mask[..., None], logits, np.float32(poison))
        plan = top_k_routing(
            loud, 2, 3, mask, normalization=normalization, priority=priority
        )
        seats, asks = by_loop(
            logits, 2, 3, mask, normalization=normalization, priority=priority
        )
        check_plan(plan, None, seats, 3, asks)


@pytest.mark.parametrize(
    ("priority", "capacity", "jit"),
    [
        ("choice_major", None, True),
        ("choice_major", None, False),
        ("token_major", 2, False),
        ("batch_prioritized", 2, True),
        ("gate_prioritized", 2, False),
        *(
            pytest.param(priority, 2, True, marks=pytest.mark.large)
            for priority in ("choice_major", "token_major", "gate_prioritized")
        ),
    ],
)
def test_unknown_shapes_in_a_graph(priority, capacity, jit):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 4]),
            tf.TensorSpec([None, None], tf.bool),
        ],
        jit_compile=jit,
        autograph=False,
    )
    def route(logits, mask):
        return top_k_routing(
            logits,
            2,
            capacity,
            mask,
            normalization="after_drop",
            priority=priority,
            second_expert_policy="threshold",
        )

    rng = np.random.default_rng(1)
    for groups, tokens in ((2, 7),) if jit else ((1, 4), (2, 7)):
        logits = scores(groups, tokens, 4, rng)
        mask = padding(groups, tokens, rng, 0.8)
        seats, asks = by_loop(
            logits,
            2,
            capacity,
            mask,
            normalization="after_drop",
            priority=priority,
            policy="threshold",
        )
        slots = tokens if jit and capacity is None else capacity
        check_plan(route(logits, mask), logits, seats, slots, asks, mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_selected_experts": 5}, "num_selected_experts=5"),
        ({"num_selected_experts": 0}, "num_selected_experts=0"),
        ({"normalization": "sum"}, "`normalization`.*before_drop.*'sum'"),
        ({"priority": "first"}, "`priority`.*choice_major.*'first'"),
        (
            {"second_expert_policy": "some"},
            "`second_expert_policy`.*threshold.*'some'",
        ),
        (
            {"second_expert_policy": "random", "seed": 1}
            | {"second_expert_threshold": 0.0},
            "second_expert_threshold=0",
        ),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        top_k_routing(
            np.zeros((1, 3, 4)), **{"num_selected_experts": 2, **arguments}
        )
