"""One expert, one token and one key have the weight 1, and no warning."""

import warnings

import numpy as np
import pytest

from keras_moe import layers
from keras_moe import ops
from keras_moe.ops._softmax import softmax


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "You are using a softmax")
        yield


def test_is_softmax():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    mass = np.exp(x)
    for axis in (-1, -2):
        expected = mass / mass.sum(axis=axis, keepdims=True)
        np.testing.assert_allclose(softmax(x, axis), expected, rtol=1e-5)


def test_one_entry():
    x = np.array([[3.0], [np.nan]], "float32")
    np.testing.assert_array_equal(softmax(x), [[1.0], [np.nan]])


def test_one_expert():
    logits = np.random.default_rng(0).normal(size=(1, 5, 1)).astype("float32")
    for plan in (
        ops.top_k_routing(logits, 1, None),
        ops.expert_choice_routing(logits, 5),
    ):
        np.testing.assert_array_equal(plan.probabilities, np.ones((1, 5, 1)))


def test_one_token_and_one_slot():
    plan = ops.soft_routing(np.zeros((1, 1, 1, 1), "float32"))
    assert all(np.all(np.isfinite(x)) for x in plan if x is not None)


def test_one_key():
    x = np.ones((2, 1, 8), "float32")
    assert np.all(np.isfinite(layers.T5Attention(2, 4)(x, x)))
