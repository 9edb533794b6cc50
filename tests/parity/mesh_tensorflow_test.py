"""Our routing against mesh-tensorflow's own functions, on the same logits.

Where they have a known bug the comparison stops short of it, and says so.
"""

import importlib.util

import numpy as np
import pytest

from keras_moe.losses import load_balancing_loss
from keras_moe.losses import router_z_loss
from keras_moe.ops import expert_choice_routing
from keras_moe.ops import top_k_routing

if importlib.util.find_spec("mesh_tensorflow") is None:
    pytest.skip("needs the [parity] extra", allow_module_level=True)

from tests.covering import covering
from tests.parity.mesh_tensorflow_gating import run_gating
from tests.parity.mesh_tensorflow_gating import run_z_loss

# Theirs divides gates by their sum plus 1e-9.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
GROUPS, TOKENS, EXPERTS = 3, 24, 6
# From most tokens dropped to none.
CAPACITIES = (1, 4, 7, TOKENS)
# Few by default where `test_switch` has them all: what is dropped is decided by
# the same code.
SOME = [
    pytest.param(1, marks=pytest.mark.large),
    4,
    pytest.param(7, marks=pytest.mark.large),
    TOKENS,
]


@pytest.fixture
def logits():
    generator = np.random.default_rng(7)
    scores = generator.normal(scale=2.0, size=(GROUPS, TOKENS, EXPERTS))
    # Uneven, so that experts overflow.
    return (scores + np.linspace(0.0, 2.0, EXPERTS)).astype("float32")


@pytest.fixture
def padding_mask():
    mask = np.random.default_rng(8).random((GROUPS, TOKENS)) < 0.8
    mask[0] = True
    return mask


def assert_same_plan(plan, gating):
    dispatch = np.asarray(plan.dispatch_mask())
    np.testing.assert_array_equal(dispatch, gating.dispatch > 0)
    np.testing.assert_allclose(
        plan.combine_array(), gating.combine, **TOLERANCE
    )


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_switch(logits, padding_mask, capacity):
    gating = run_gating("switch", logits, capacity, padding_mask)
    plan = top_k_routing(logits, 1, capacity, padding_mask)
    assert_same_plan(plan, gating)


def test_switch_of_tied_experts():
    """Ties go to the expert with the lowest index."""
    logits = np.round(
        np.random.default_rng(3).normal(size=(GROUPS, TOKENS, EXPERTS))
    ).astype("float32")
    gating = run_gating("switch", logits, 5)
    assert_same_plan(top_k_routing(logits, 1, 5), gating)


@pytest.mark.parametrize("capacity", SOME)
def test_top_2(logits, padding_mask, capacity):
    gating = run_gating("top_2", logits, capacity, padding_mask)
    plan = top_k_routing(
        logits, 2, capacity, padding_mask, normalization="before_drop"
    )
    assert_same_plan(plan, gating)


@pytest.mark.parametrize(
    ("gates", "policy"),
    covering([("top_2", 2), ("top_n", 3)], ["none", "threshold"], strength=1),
)
def test_second_expert_policy(logits, padding_mask, gates, policy):
    name, choices = gates
    threshold = 0.15
    gating = run_gating(
        name,
        logits,
        7,
        padding_mask,
        moe_second_policy_eval=policy,
        moe_second_threshold_eval=threshold,
    )
    plan = top_k_routing(
        logits,
        choices,
        7,
        padding_mask,
        normalization="before_drop",
        second_expert_policy=policy,
        second_expert_threshold=threshold,
    )
    assert_same_plan(plan, gating)


def test_random_second_expert_policy():
    """Both refuse second choices with the same probability."""
    tokens, threshold = 1500, 0.6
    logits = np.tile(np.float32([0.0, -0.5, -9.0]), (1, tokens, 1))
    gating = run_gating(
        "top_2",
        logits,
        tokens,
        moe_second_policy_eval="random",
        moe_second_threshold_eval=threshold,
    )
    plan = top_k_routing(
        logits,
        2,
        tokens,
        normalization="before_drop",
        second_expert_policy="random",
        second_expert_threshold=threshold,
        seed=11,
    )
    probability = 1 / (1 + np.exp(0.5)) / threshold
    deviation = np.sqrt(probability * (1 - probability) / tokens)
    for dispatch in (gating.dispatch, np.asarray(plan.dispatch_mask())):
        assert dispatch[..., 0, :].sum() == tokens
        kept = dispatch[..., 1, :].sum() / tokens
        assert abs(kept - probability) < 4 * deviation


@pytest.mark.parametrize(
    ("capacity", "choices"),
    covering(CAPACITIES, [2, 3, EXPERTS], strength=1),
)
def test_top_n(logits, padding_mask, capacity, choices):
    gating = run_gating(
        "top_n",
        logits,
        capacity,
        padding_mask,
        moe_top_n_num_experts_per_token=choices,
    )
    plan = top_k_routing(
        logits, choices, capacity, padding_mask, normalization="before_drop"
    )
    assert_same_plan(plan, gating)


@pytest.mark.parametrize("capacity", SOME)
def test_switch_max(logits, padding_mask, capacity):
    gating = run_gating("switch_max", logits, capacity, padding_mask)
    plan = top_k_routing(
        logits, 1, capacity, padding_mask, priority="batch_prioritized"
    )
    assert_same_plan(plan, gating)


@pytest.mark.parametrize("capacity", [1, 4, 12])
def test_expert_selection(logits, padding_mask, capacity):
    """No more slots than tokens: theirs fills the rest with padding."""
    assert padding_mask.sum(axis=1).min() >= capacity
    gating = run_gating("expert_selection", logits, capacity, padding_mask)
    plan = expert_choice_routing(
        logits,
        capacity,
        padding_mask,
        softmax_over="tokens",
        normalization="mean",
    )
    assert_same_plan(plan, gating)


@pytest.mark.parametrize("name", ["switch", "switch_max", "top_2", "top_n"])
def test_load_balancing_loss(logits, name):
    """Theirs counts first choices alone, however many there are."""
    gating = run_gating(name, logits, 4)
    loss = load_balancing_loss(top_k_routing(logits, 1, 4).probabilities)
    np.testing.assert_allclose(loss, gating.loss, **TOLERANCE)


@pytest.mark.parametrize("name", ["top_2", "top_n"])
def test_load_balancing_loss_of_padding(logits, name):
    """Theirs divides both means by all tokens, padding included.

    So it shrinks with the square of the share of real tokens; otherwise the
    two are the same. (In `switch` and `switch_max` padding takes part in the
    means. That is not compared.)
    """
    real = 15
    mask = np.broadcast_to(np.arange(TOKENS) < real, (GROUPS, TOKENS))
    gating = run_gating(name, logits, 4, mask)
    plan = top_k_routing(logits, 1, 4, mask)
    loss = load_balancing_loss(plan.probabilities, mask)
    np.testing.assert_allclose(
        loss, gating.loss * (TOKENS / real) ** 2, **TOLERANCE
    )


def test_router_z_loss(logits, padding_mask):
    np.testing.assert_allclose(
        router_z_loss(logits, padding_mask),
        run_z_loss(logits, padding_mask),
        **TOLERANCE,
    )
