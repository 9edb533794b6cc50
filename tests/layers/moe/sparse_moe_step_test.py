"""A decoding step: few tokens, parted by expert without slots."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe.layers.moe import _executors
from keras_moe.ops import top_k_routing
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make

EXPERTS = 4


@pytest.fixture
def steps(monkeypatch):
    """Counts the calls of the executor that is tested."""
    calls = []
    original = _executors.execute_by_choice

    def execute(*arguments):
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(_executors, "execute_by_choice", execute)
    return calls


def top_2(**settings):
    return layers.TopKRouter(
        num_selected_experts=2,
        kernel_initializer="glorot_normal",
        name="router",
        **settings,
    )


def pair(router=None, **settings):
    """Two layers of equal weights: as it chooses, and with slots."""
    found, expected = (
        make(
            EXPERTS,
            router=router() if router else None,
            dispatch=dispatch,
            **settings,
        )
        for dispatch in ("auto", "gather")
    )
    expected.set_weights(found.get_weights())
    return found, expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_bias": True},
        {"gated": True, "activation": "gelu"},
        {"router": top_2},
        {"router": lambda: top_2(second_expert_policy="threshold")},
        {"router": lambda: top_2(normalization="none")},
    ],
)
def test_equals_slots(settings, steps):
    found, expected = pair(**settings)
    for rows in (1, 7):
        x = data(rows, 1)
        np.testing.assert_allclose(found(x), expected(x), rtol=1e-4, atol=1e-6)
    assert len(steps) == 2


@pytest.mark.parametrize("router", [None, top_2])
@pytest.mark.parametrize("token", ["padding", "broken", "zero"])
def test_a_token_alone(router, token, steps):
    found, expected = pair(router)
    x = data(1, 1) * (0.0 if token == "zero" else 1.0)
    if token == "broken":
        x[0, 0, 2] = np.nan
    mask = np.array([[token != "padding"]])
    np.testing.assert_allclose(
        found(x, mask=mask), expected(x, mask=mask), rtol=1e-4, atol=1e-6
    )
    assert steps


@pytest.mark.parametrize("router", [None, top_2])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_of_a_broken_token(router, rows, value, steps):
    x = data(rows, 1)
    x[0, 0, 2] = value

    def gradients(layer):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(tf.where(tf.math.is_finite(y), y, 0.0) ** 2)
        weights = [w.value for w in layer.experts.trainable_weights]
        return tape.gradient(loss, weights)

    for found, expected in zip(*map(gradients, pair(router)), strict=True):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert steps


@pytest.mark.parametrize("router", [None, top_2])
def test_padding_is_zero_whatever_the_weights(router, steps):
    mask = np.array([[True], [False], [True]])
    for layer in pair(router, use_bias=True):
        for weight in layer.experts.trainable_weights:
            weight.assign(tf.fill(weight.shape, np.inf))
        outputs = layer(data(3, 1), mask=mask).numpy()
        assert not outputs[1].any()
        assert not np.isfinite(outputs[[0, 2]]).any()
    assert steps


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_part_none(rows):
    layer = make(EXPERTS)
    layer(data(rows, 1))

    def operations(rows):
        signature = [tf.TensorSpec((rows, 1, 6))]
        step = tf.function(layer, signature, autograph=False)
        graph = step.get_concrete_function().graph
        return [operation.type for operation in graph.get_operations()]

    parting = "DynamicPartition"
    assert parting in operations(None) and parting not in operations(rows)


@pytest.mark.parametrize("router", [None, top_2])
def test_padding_and_broken_tokens(router, steps):
    found, expected = pair(router)
    x = data(5, 1)
    x[1] = np.nan  # padding
    x[3, 0, 2] = np.nan
    mask = np.array([[True], [False], [True], [True], [True]])
    outputs = found(x, mask=mask).numpy()
    assert steps
    np.testing.assert_allclose(
        outputs, expected(x, mask=mask), rtol=1e-4, atol=1e-6
    )
    assert not outputs[1].any() and np.isnan(outputs[3]).all()
    assert np.isfinite(outputs[[0, 2, 4]]).all()


@pytest.mark.parametrize("rows", [1, 6])
def test_gradients_are_those_of_slots(rows, steps):
    layers_, x = pair(top_2), tf.constant(data(rows, 1))

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        weights = [weight.value for weight in layer.trainable_weights]
        return tape.gradient(loss, [x, *weights])

    for found, expected in zip(*map(gradients, layers_), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert steps


def test_no_token():
    found, _ = pair()
    assert found(data(0, 1)).shape == (0, 1, 6)


def test_where_it_is_not_used(steps):
    found, _ = pair()
    found(data(2, 3))  # several positions
    found(data(2, 1), training=True)  # capacity drops
    capped = make(EXPERTS, router={"eval_capacity_factor": 1.0})
    capped(data(2, 1))
    tf.function(found, jit_compile=True, autograph=False)(data(2, 1))
    found.quantize("int8")
    found(data(2, 1))
    assert not steps


@pytest.mark.parametrize("policy", ["all", "threshold"])
def test_the_plan_weighs_choices(policy):
    logits = np.random.default_rng(0).normal(size=(1, 5, EXPERTS))
    settings = {
        "normalization": "before_drop",
        "second_expert_policy": policy,
        "second_expert_threshold": 0.4,
    }
    plan = top_k_routing(logits, 2, None, **settings)
    # The same weights, read from the slots that the choices sit in.
    seats = np.append(plan.combine_weight.numpy().ravel(), 0.0)
    np.testing.assert_allclose(plan.choice_weight, seats[plan.slot_index])
    assert top_k_routing(logits, 2, 3, **settings).choice_weight == ()
    settings["normalization"] = "after_drop"
    assert top_k_routing(logits, 2, None, **settings).choice_weight == ()
