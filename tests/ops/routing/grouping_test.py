import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import group_tokens
from keras_moe.ops import ungroup_tokens


def check(inputs, mask, grouped, grouped_mask, size):
    dim = inputs.shape[-1]
    tokens = inputs.reshape(-1, dim)
    size = size or len(tokens)
    groups = -(-len(tokens) // size) if len(tokens) else grouped.shape[0]
    assert grouped.shape == (groups, size, dim)
    flat = np.asarray(grouped).reshape(-1, dim)
    np.testing.assert_array_equal(flat[: len(tokens)], tokens)
    assert not flat[len(tokens) :].any()
    if grouped_mask is None:
        assert mask is None and len(flat) == len(tokens)
        return
    assert np.asarray(grouped_mask).dtype == bool
    real = np.asarray(grouped_mask).reshape(-1)
    want = np.ones(len(tokens), bool) if mask is None else mask.reshape(-1)
    np.testing.assert_array_equal(real[: len(tokens)], want)
    assert not real[len(tokens) :].any()


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    size=st.one_of(st.none(), st.integers(1, 9)),
    padded=st.booleans(),
)
def test_round_trip(shape, size, padded):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(*shape, 2)).astype("float32")
    mask = rng.random(shape) < 0.5 if padded else None
    grouped, grouped_mask = group_tokens(inputs, mask, size)
    check(inputs, mask, grouped, grouped_mask, size)
    np.testing.assert_array_equal(ungroup_tokens(grouped, inputs), inputs)


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_unknown_shapes(size, padded, jit):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 2]),
            tf.TensorSpec([None, None], tf.bool),
        ],
        jit_compile=jit,
        autograph=False,
    )
    def there_and_back(inputs, mask):
        grouped, new = group_tokens(inputs, mask if padded else None, size)
        if new is None:
            new = tf.ones(tf.shape(grouped)[:2], tf.bool)
        return grouped, new, ungroup_tokens(grouped, inputs)

    rng = np.random.default_rng(0)
    for shape in ((2, 4), (3, 3), (1, 1)):
        inputs = rng.normal(size=(*shape, 2)).astype("float32")
        mask = rng.random(shape) < 0.5
        grouped, new, back = there_and_back(inputs, mask)
        check(inputs, mask if padded else None, grouped, new, size)
        np.testing.assert_array_equal(back, inputs)


@pytest.mark.parametrize("size", [None, 4])
def test_empty_batch(size):
    inputs = np.zeros((0, 3, 2), "float32")
    grouped, _ = group_tokens(inputs, np.zeros((0, 3), bool), size)
    assert ungroup_tokens(grouped, inputs).shape == (0, 3, 2)
