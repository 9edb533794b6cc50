"""The layer under every router, against a loop over tokens."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import kernels
from tests.layers.moe.sparse_moe_case import make
from tests.layers.routers.router_case import router
from tests.reference import expert_choice
from tests.reference import soft
from tests.reference import sparse_moe
from tests.reference import top_k

# What the reference is to be told of each router.
ASKS = {
    "switch": {"k": 1},
    "top_2": {"k": 2, "normalization": "before_drop"},
    "top_3": {
        "k": 3,
        "normalization": "after_drop",
        "priority": "token_major",
        "policy": "threshold",
    },
    "prioritized": {
        "k": 2,
        "normalization": "before_drop",
        "priority": "batch_prioritized",
    },
}


def by_loop(layer, inputs, mask, group_size, route):
    """The output where `route(logits, real)` gives the seats of a group."""
    weights = kernels(layer)
    kernel = weights.pop("router").astype("float64")
    bank = sparse_moe.ExpertBank(**weights)
    tokens = inputs.reshape(-1, DIM).astype("float64")
    outputs = [
        sparse_moe.combine(rows, route(rows @ kernel, real), bank)
        for rows, real in sparse_moe.in_groups(tokens, mask, group_size)
    ]
    return np.concatenate(outputs)[: len(tokens)].reshape(inputs.shape)


@functools.cache
def layer_of(name, **settings):
    """Building a layer takes longer than calling it."""
    return make(4, router=router(name, **settings))


@st.composite
def cases(draw):
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = rng.random(shape) < 0.7 if draw(st.booleans()) else None
    inputs = rng.normal(size=(*shape, DIM)).astype("float32")
    return inputs, mask, draw(st.sampled_from([None, 5]))


@pytest.mark.parametrize("name", ASKS)
@given(case=cases(), factor=st.sampled_from([None, 0.5, 1.0]))
@settings(max_examples=4)
def test_token_choice(name, case, factor):
    inputs, mask, group_size = case
    tokens = group_size or math.prod(inputs.shape[:2])
    layer = layer_of(name, group_size=group_size, capacity_factor=factor)
    k = ASKS[name]["k"]
    capacity = None
    if factor is not None:
        capacity = min(math.ceil(factor * k * tokens / 4), tokens)

    def route(slots):
        return lambda logits, real: top_k.route(
            logits, capacity=slots, mask=real, **ASKS[name]
        )[0]

    for training, slots in ((True, capacity), (False, None)):
        np.testing.assert_allclose(
            layer(inputs, mask=mask, training=training),
            by_loop(layer, inputs, mask, group_size, route(slots)),
            atol=1e-5,
        )


@given(case=cases(), factor=st.sampled_from([0.5, 1.0, 2.0, 9.0]))
@settings(max_examples=10)
def test_expert_choice(case, factor):
    inputs, mask, group_size = case
    tokens = group_size or math.prod(inputs.shape[:2])
    layer = layer_of(
        "expert_choice", group_size=group_size, capacity_factor=factor
    )
    capacity = min(math.ceil(factor * tokens / 4), tokens)
    expected = by_loop(
        layer,
        inputs,
        mask,
        group_size,
        lambda logits, real: expert_choice.route(logits, capacity, real),
    )
    for training in (True, False):
        np.testing.assert_allclose(
            layer(inputs, mask=mask, training=training), expected, atol=1e-5
        )


@given(case=cases(), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_a_bias_moves_choices_and_not_gates(case, seed):
    inputs, mask, group_size = case
    layer = layer_of("bias_balanced", group_size=group_size)
    bias = np.random.default_rng(seed).normal(size=4).astype("float32")
    layer.router.expert_bias.assign(bias)
    options = {
        "k": layer.router.num_selected_experts,
        "normalization": layer.router.normalization,
        "bias": bias,
    }
    expected = by_loop(
        layer,
        inputs,
        mask,
        group_size,
        lambda logits, real: top_k.route(logits, mask=real, **options)[0],
    )
    np.testing.assert_allclose(layer(inputs, mask=mask), expected, atol=1e-5)


@given(case=cases())
@settings(max_examples=10)
def test_soft(case):
    inputs, mask, group_size = case
    layer = layer_of("soft", group_size=group_size)
    layer.router.scale.assign(3.0)
    weights = kernels(layer)
    kernel = weights.pop("router").astype("float64")
    bank = sparse_moe.ExpertBank(**weights)
    tokens = inputs.reshape(-1, DIM).astype("float64")
    outputs = []
    for rows, real in sparse_moe.in_groups(tokens, mask, group_size):
        logits = soft_logits(layer.router, rows, kernel)
        dispatch, combine = soft.route(logits, real)
        outputs.append(soft.mix(rows, dispatch, combine, bank))
    outputs = np.concatenate(outputs)[: len(tokens)]
    for training in (True, False):
        np.testing.assert_allclose(
            layer(inputs, mask=mask, training=training),
            outputs.reshape(inputs.shape),
            atol=1e-5,
        )


def soft_logits(soft_router, rows, kernel):
    """The scores of section 2.3: both sides of unit length, times a scale."""
    scale = float(soft_router.scale.numpy())
    logits = np.zeros((len(rows), *kernel.shape[1:]))
    for t, e, c in np.ndindex(*logits.shape):
        row, slot = rows[t], kernel[:, e, c]
        lengths = max(np.linalg.norm(row), 1e-6) * np.linalg.norm(slot)
        logits[t, e, c] = scale * row @ slot / lengths
    return logits


def test_with_room_for_all_it_is_a_sum_over_the_best():
    layer = make(4, router=router("top_2", capacity_factor=None))
    inputs = data(3, 13)
    w = kernels(layer)
    p = np.exp(inputs @ w["router"])
    p /= p.sum(-1, keepdims=True)
    p = np.where(p >= np.sort(p, axis=-1)[..., -2:-1], p, 0.0)
    p /= p.sum(-1, keepdims=True)
    hidden = np.maximum(np.einsum("bld,edf->belf", inputs, w["wi"]), 0.0)
    everyone = np.einsum("belf,efd->beld", hidden, w["wo"])
    np.testing.assert_allclose(
        layer(inputs, training=True),
        np.einsum("ble,beld->bld", p, everyone),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "name", ["switch", "top_2", "bias_balanced", "soft", "expert_choice"]
)
@pytest.mark.parametrize("length", [1, 7])
def test_equal_experts_are_one_network(name, length):
    # Weights that sum to 1, and nobody dropped, give the dense output.
    layer = make(3, router=router(name, capacity_factor=3.0))
    for bank in (layer.experts.inner, layer.experts.outer):
        kernel = bank.kernel.numpy()
        bank.kernel.assign(np.repeat(kernel[:1], 3, axis=0))
    inputs = data(1, length)
    w = kernels(layer)
    dense = np.maximum(inputs @ w["wi"][0], 0.0) @ w["wo"][0]
    outputs = np.asarray(layer(inputs))
    if name == "switch":  # the gate is left
        p = np.exp(inputs @ w["router"])
        dense = dense * (p / p.sum(-1, keepdims=True)).max(-1, keepdims=True)
    if name == "soft" and length > 1:  # slots hold means of tokens
        assert not np.allclose(outputs, dense, atol=1e-3)
    else:
        np.testing.assert_allclose(outputs, dense, atol=1e-5)
