import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.metrics import expert_counts
from keras_moe.metrics import routing_statistics
from keras_moe.ops import expert_choice_routing
from keras_moe.ops import soft_routing
from keras_moe.ops import top_k_routing
from tests.reference import routing_statistics as reference
from tests.reference import soft
from tests.reference import top_k


@given(
    groups=st.integers(1, 3),
    tokens=st.integers(1, 9),
    experts=st.integers(1, 4),
    choices=st.integers(1, 4),
    capacity=st.one_of(st.none(), st.integers(1, 10)),
    policy=st.sampled_from(["all", "none", "threshold"]),
    share=st.sampled_from([None, 0.0, 0.6]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(
    groups, tokens, experts, choices, capacity, policy, share, seed
):
    rng = np.random.default_rng(seed)
    choices = min(choices, experts)
    logits = rng.normal(size=(groups, tokens, experts)).astype("float32")
    mask = None
    if share is not None:
        mask = rng.random((groups, tokens)) < share
    plan = top_k_routing(
        logits, choices, capacity, mask, second_expert_policy=policy
    )
    if mask is None:
        real = np.ones((groups, tokens), bool)
    else:
        real = mask
    routed = [
        top_k.route(logits[g], choices, capacity, real[g], policy=policy)
        for g in range(groups)
    ]
    received = routing_statistics(plan, mask)
    expected = reference.statistics(
        [seats for seats, _ in routed], logits, capacity, real
    )
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        assert float(received[name]) == pytest.approx(
            value, rel=1e-5, abs=1e-6
        ), name
    asks = [ask for _, asks in routed for ask in asks]
    np.testing.assert_array_equal(
        expert_counts(plan, mask), reference.load(asks, experts)
    )


def test_one_choice_left_is_not_left_behind():
    # Two choices a token, one slot an expert: every token keeps one of its
    # two, and none is lost.
    logits = np.array([[[2.0, 1.0], [1.0, 2.0]]])
    plan = top_k_routing(logits, 2, expert_capacity=1)
    received = routing_statistics(plan)
    assert float(received["fraction_tokens_left_behind"]) == 0.0
    assert float(received["expert_usage"]) == 1.0
    # All four choices count, whatever became of them.
    np.testing.assert_array_equal(expert_counts(plan), [2, 2])


@pytest.mark.parametrize("choices", [1, 2])
def test_padding_is_not_left_behind(choices):
    # Elsewhere padding made this figure negative.
    logits = np.zeros((2, 5, 3), "float32")
    mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    plan = top_k_routing(logits, choices, None, mask)
    received = routing_statistics(plan, mask)
    assert float(received["fraction_tokens_left_behind"]) == 0.0
    assert float(received["router_entropy"]) == pytest.approx(np.log(3))
    assert float(np.sum(expert_counts(plan, mask))) == 3 * choices


def test_certain_and_undecided_routers():
    certain = np.full((1, 3, 4), -1e9, "float32")
    certain[..., 2] = 0.0
    received = routing_statistics(top_k_routing(certain, 1))
    assert float(received["router_entropy"]) == 0.0
    assert float(received["router_confidence"]) == 1.0
    received = routing_statistics(top_k_routing(np.zeros((1, 3, 4)), 1))
    assert float(received["router_entropy"]) == pytest.approx(np.log(4))
    assert float(received["router_confidence"]) == pytest.approx(0.25)


def test_experts_without_tokens_to_choose_are_unused():
    plan = expert_choice_routing(np.zeros((1, 0, 4)), 2)
    assert routing_statistics(plan)["expert_usage"] == 0


@pytest.mark.parametrize("softmax_over", ["experts", "tokens"])
def test_expert_choice(softmax_over):
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(2, 6, 3)).astype("float32")
    mask = np.array([[1] * 6, [1] * 5 + [0]], bool)
    plan = expert_choice_routing(logits, 2, mask, softmax_over=softmax_over)
    received = {k: float(v) for k, v in routing_statistics(plan, mask).items()}
    taken = np.asarray(plan.token_index)
    alone = sum(6 - g - len(set(taken[g].ravel())) for g in range(2))
    assert received["fraction_tokens_left_behind"] == pytest.approx(alone / 11)
    assert received["expert_usage"] == 1.0
    p = np.asarray(plan.probabilities, "float64")[mask]
    p /= p.sum(-1, keepdims=True)
    assert received["router_entropy"] == pytest.approx(
        -(p * np.log(p)).sum(-1).mean(), rel=1e-5
    )
    # Every expert takes its fill.
    np.testing.assert_array_equal(expert_counts(plan, mask), [4, 4, 4])


@pytest.mark.parametrize("share", [None, 0.6, 0.0])
def test_soft_plans(share):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 5, 3, 2)).astype("float32")
    mask = None if share is None else rng.random((2, 5)) < share
    plan = soft_routing(logits, mask)
    combine = np.stack(
        [
            soft.route(logits[g], None if mask is None else mask[g])[1]
            for g in range(2)
        ]
    ).sum(-1)  # [groups, tokens, experts]
    real = combine.reshape(-1, 3)
    real = real[real.sum(-1) > 0]
    received = routing_statistics(plan, mask)
    tokens = max(len(real), 1)
    expected = {
        "fraction_tokens_left_behind": 0.0,
        "router_confidence": sum(row.max() for row in real) / tokens,
        "expert_usage": 1.0,
        "router_entropy": -(real * np.log(real)).sum() / tokens,
    }
    assert {name: float(x) for name, x in received.items()} == pytest.approx(
        expected, rel=1e-5
    )
    np.testing.assert_allclose(
        expert_counts(plan, mask), real.sum(0), rtol=1e-5
    )
