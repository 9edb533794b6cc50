"""Who asks at all: by chance, and by a bias."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops import top_k_routing
from tests.ops.routing.routing_case import check_plan
from tests.ops.routing.routing_case import scores
from tests.ops.routing.top_k_case import NORMALIZATIONS
from tests.ops.routing.top_k_case import PRIORITIES
from tests.ops.routing.top_k_case import by_loop
from tests.ops.routing.top_k_case import cases
from tests.reference import top_k


@pytest.mark.parametrize("priority", PRIORITIES)
@given(case=cases(), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_chance_decides_who_asks_and_nothing_else(priority, case, seed):
    logits, k, capacity, mask, normalization = case
    plan = top_k_routing(
        logits,
        k,
        capacity,
        mask,
        normalization=normalization,
        priority=priority,
        second_expert_policy="random",
        second_expert_threshold=0.4,
        seed=seed,
    )
    asked = np.asarray(plan.expert_index) < logits.shape[2]
    seats, asks = [], []
    for g, rows in enumerate(logits):
        drawn = {tuple(pair) for pair in np.argwhere(asked[g])}
        group = top_k.route(
            rows,
            k,
            capacity,
            None if mask is None else mask[g],
            normalization=normalization,
            priority=priority,
            policy="random",
            drawn=drawn,
        )
        seats.append(group[0])
        asks.append(group[1])
    check_plan(plan, logits, seats, capacity, asks, mask)


def random_policy(logits, seed, k=2, threshold=0.5):
    plan = top_k_routing(
        logits,
        k,
        second_expert_policy="random",
        second_expert_threshold=threshold,
        seed=seed,
    )
    return np.asarray(plan.expert_index)


def test_chance_is_the_share_over_the_threshold():
    # Shares of choices 2 and 3 of (.6, .3, .1): asked with chance .6 and .2;
    # of (.5, .5, 0): always and never.
    tokens = 4000
    rows = np.log(np.float32([[0.6, 0.3, 0.1], [0.5, 0.5, 1e-30]]))
    logits = np.repeat(rows[:, None], tokens, axis=1)
    asked = random_policy(logits, seed=3, k=3) < 3
    assert np.all(asked[..., 0])
    assert np.all(asked[1, :, 1]) and not np.any(asked[1, :, 2])
    for rank, chance in ((1, 0.6), (2, 0.2)):
        error = 5 * (chance * (1 - chance) / tokens) ** 0.5
        assert np.mean(asked[0, :, rank]) == pytest.approx(chance, abs=error)
    # Drawn for each choice of its own.
    both = np.mean(asked[0, :, 1] & asked[0, :, 2])
    assert both == pytest.approx(0.12, abs=5 * (0.12 * 0.88 / tokens) ** 0.5)


def test_chance_follows_the_seed():
    logits = scores(1, 200, 4, np.random.default_rng(0))
    one = random_policy(logits, seed=1)
    np.testing.assert_array_equal(one, random_policy(logits, seed=1))
    assert not np.array_equal(one, random_policy(logits, seed=2))


def test_chance_needs_a_seed():
    with pytest.raises(ValueError, match="`seed`"):
        random_policy(np.zeros((1, 3, 4), "float32"), seed=None)


@given(case=cases(), seed=st.integers(0, 99))
def test_a_bias_chooses_and_does_not_weigh(case, seed):
    logits, k, capacity, mask, normalization = case
    bias = np.random.default_rng(seed).normal(size=logits.shape[2])
    bias = bias.astype("float32")
    plan = top_k_routing(
        logits,
        k,
        capacity,
        mask,
        normalization=normalization,
        selection_bias=bias,
    )
    seats, asks = by_loop(
        logits, k, capacity, mask, normalization=normalization, bias=bias
    )
    check_plan(plan, logits, seats, capacity, asks, mask)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_bias_may_choose_what_the_router_rules_out(normalization):
    # Both gates are 0 in float32.
    logits = np.float32([[[200.0, 0.0, 0.0]]])
    with tf.GradientTape() as tape:
        x = tf.constant(logits)
        tape.watch(x)
        plan = top_k_routing(
            x, 2, 1, normalization=normalization, selection_bias=[-9.0, 0, 0]
        )
        total = tf.reduce_sum(plan.combine_weight)
    np.testing.assert_array_equal(plan.expert_index, [[[1, 2]]])
    assert np.all(np.isfinite(plan.combine_weight))
    assert np.all(np.isfinite(tape.gradient(total, x)))
