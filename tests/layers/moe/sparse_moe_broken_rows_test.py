"""A token that is not finite comes out as NaN, and changes no other."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make
from tests.layers.routers.router_case import SPARSE
from tests.layers.routers.router_case import router

EXECUTORS = ("gather", "einsum", "ragged")
PAIRS = [("soft", "einsum")] + [
    (name, executor) for name in SPARSE for executor in EXECUTORS
]
# Every executor, and every kind of router; the other pairs are large.
FEW = {
    ("soft", "einsum"),
    ("top_2", "einsum"),
    ("top_2", "ragged"),
    ("expert_choice", "gather"),
    ("hash", "gather"),
}


def run(layer, state, inputs, mask, training):
    """The outputs and losses, from the same seeds and biases each time."""
    for variable, value in zip(
        layer.non_trainable_variables, state, strict=True
    ):
        variable.assign(value)
    ids = np.arange(mask.size).reshape(mask.shape)
    y = layer(inputs, mask=mask, token_ids=ids, training=training)
    return np.asarray(y), list(layer.losses)


@pytest.mark.parametrize(
    ("name", "executor"),
    [
        pytest.param(*pair, marks=[] if pair in FEW else pytest.mark.large)
        for pair in PAIRS
    ],
)
def test_stays_alone(name, executor):
    settings = {} if name == "soft" else {"capacity_factor": 0.7}
    inputs, everybody = data(2, 7), np.ones((2, 7), bool)
    mask = everybody.copy()
    mask[0, 3] = mask[1, 1] = False
    bad = inputs.copy()
    bad[0, 3, 2], bad[1, 1, 0] = np.nan, -np.inf
    layer = make(4, router=router(name, **settings), dispatch=executor)
    layer(inputs, token_ids=np.zeros((2, 7), int))
    state = [np.array(v) for v in layer.non_trainable_variables]
    for training in (False, True):
        # As if it were padding.
        want, want_losses = run(layer, state, inputs, mask, training)
        y, losses = run(layer, state, bad, everybody, training)
        np.testing.assert_allclose(y[mask], want[mask], atol=1e-5)
        assert np.isnan(y[~mask]).all()
        np.testing.assert_allclose(losses, want_losses, rtol=1e-5)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_gradients_of_the_others_are_finite(executor):
    layer = make(4, router=router("top_2"), dispatch=executor)
    inputs = data(2, 7)
    inputs[0, 3] = np.nan
    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.where(tf.math.is_nan(y), 0.0, y * y))
    weights = [weight.value for weight in layer.trainable_weights]
    for gradient in tape.gradient(loss, [x, *weights]):
        assert np.isfinite(gradient).all()
        assert np.any(gradient)


@pytest.mark.parametrize("executor", EXECUTORS)
@given(
    place=st.sampled_from([0, 1, 400, 799]),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
)
@settings(max_examples=3)
def test_long_queues_stay_clean(executor, place, value):
    """Queues that are filled up to a multiple, with no token of the batch.

    The first token was taken: not finite, it spoiled all kernels' gradients.
    """
    layer = make(4, router=router("top_2"), dispatch=executor)
    inputs = data(1, 800)
    inputs[0, place, 1] = value
    with tf.GradientTape() as tape:
        y = layer(inputs, training=True)
        others = tf.boolean_mask(y[0], np.arange(800) != place)
        loss = tf.reduce_sum(others * others)
    assert np.isnan(y[0, place]).all() and np.isfinite(others).all()
    for gradient in tape.gradient(loss, layer.trainable_weights):
        assert np.isfinite(gradient).all()
        assert np.any(gradient)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_router_of_nan_is_not_hidden(executor):
    layer = make(4, router=router("top_2"), dispatch=executor)
    layer(data(1, 3))
    layer.router.kernel.assign(np.full((6, 4), np.nan))
    for shape in ((1, 3), (0, 3)):
        y = layer(data(*shape))
        assert np.isnan(y).all()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_expert_that_overflows_spoils_one_token(executor):
    layer = make(4, router=router("top_2"), dispatch=executor)
    inputs = data(1, 7)
    want = layer(inputs)
    inputs[0, 3] *= 1e30
    layer.experts.outer.kernel.assign(layer.experts.outer.kernel * 1e10)
    y = np.asarray(layer(inputs))[0]
    broken = ~np.isfinite(y).all(axis=-1)
    assert broken.tolist() == [False] * 3 + [True] + [False] * 3
    np.testing.assert_allclose(y[~broken] / 1e10, want[0][~broken], rtol=1e-4)
