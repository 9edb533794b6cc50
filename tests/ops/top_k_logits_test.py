"""Logits survive in a few bytes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import compress_logits
from keras_moe.ops import expand_logits
from keras_moe.ops._top_k_logits import TAILS
from tests.reference.distillation import log_softmax

LOGITS = {
    "shape": st.sampled_from([(2,), (9,), (3, 5), (2, 4, 7)]),
    "scale": st.sampled_from([1e-3, 1.0, 30.0]),
    "forbidden": st.sampled_from([0.0, 0.5]),
    "seed": st.integers(0, 999),
}


def draw(shape, scale=1.0, forbidden=0.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=shape)
    banned = rng.random(shape) < forbidden
    banned[..., 0] = False
    return np.where(banned, -np.inf, logits).astype("float32")


def log_p(logits):
    return np.apply_along_axis(log_softmax, -1, logits)


def kept_tokens(ids, vocabulary):
    return (ids[..., None] == np.arange(vocabulary)).any(-2)


@given(**LOGITS, data=st.data())
def test_the_likeliest_are_kept(data, **options):
    logits = draw(**options)
    k = data.draw(st.integers(1, logits.shape[-1]))
    ids, values = compress_logits(logits, k)
    assert (ids.dtype, values.dtype) == (tf.int32, tf.float32)
    assert ids.shape == values.shape == (*logits.shape[:-1], k)
    expected = log_p(logits)
    np.testing.assert_allclose(
        values, -np.sort(-expected, -1)[..., :k], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(
        np.take_along_axis(logits, np.asarray(ids), -1),
        -np.sort(-logits, -1)[..., :k],
    )


@pytest.mark.parametrize("tail", TAILS)
@given(**LOGITS)
def test_all_tokens_give_the_logits_back(tail, **options):
    logits = draw(**options)
    vocabulary = logits.shape[-1]
    ids, values = compress_logits(logits, vocabulary)
    received = expand_logits(ids, values, vocabulary, tail)
    assert received.dtype == "float32"
    np.testing.assert_allclose(received, log_p(logits), rtol=1e-5, atol=1e-5)


@given(**LOGITS, data=st.data())
def test_a_uniform_tail_conserves_the_mass(data, **options):
    logits = draw(**options)
    vocabulary = logits.shape[-1]
    k = data.draw(st.integers(1, vocabulary - 1))
    ids, values = compress_logits(logits, k)
    received = np.asarray(expand_logits(ids, values, vocabulary))
    p, expected = np.exp(np.float64(received)), np.exp(log_p(logits))
    np.testing.assert_allclose(p.sum(-1), 1.0, atol=1e-5)
    kept = kept_tokens(np.asarray(ids), vocabulary)
    np.testing.assert_allclose(p[kept], expected[kept], rtol=1e-4, atol=1e-6)
    rest = np.where(kept, 0, expected).sum(-1, keepdims=True) / (vocabulary - k)
    np.testing.assert_allclose(
        np.where(kept, 0, p), np.where(kept, 0, rest), atol=1e-6
    )
    # None is forbidden, or a student could not be compared.
    assert np.isfinite(received[~kept]).all()


@given(**LOGITS, data=st.data())
def test_a_dropped_tail_is_given_to_the_others(data, **options):
    logits = draw(**options)
    vocabulary = logits.shape[-1]
    k = data.draw(st.integers(1, vocabulary - 1))
    ids, values = compress_logits(logits, k)
    received = np.asarray(expand_logits(ids, values, vocabulary, "drop"))
    kept = kept_tokens(np.asarray(ids), vocabulary)
    only = np.where(kept, logits, -np.inf)
    np.testing.assert_allclose(received, log_p(only), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tail", TAILS)
def test_half_precision_may_keep_more_than_all(tail):
    # 0.9999 and 0.0001, rounded up.
    values = np.array([[1e-3, -9.2]], "float16")
    received = np.asarray(expand_logits(np.array([[3, 0]]), values, 5, tail))
    assert not np.isnan(received).any()
    assert received.argmax() == 3
    assert np.exp(received).sum() == pytest.approx(1.0, abs=2e-3)


def test_half_precision_is_computed_in_float32():
    logits = tf.cast(draw((4, 50), scale=5.0), "bfloat16")
    ids, values = compress_logits(logits, 50)
    expected = log_p(tf.cast(logits, "float64").numpy())
    np.testing.assert_allclose(
        expand_logits(ids, values, 50), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 3, 7])
def test_compiled_by_xla(tail, k):
    logits = draw((2, 4, 7), forbidden=0.3)

    def round_trip(logits):
        ids, values = compress_logits(logits, k)
        return ids, values, expand_logits(ids, values, 7, tail)

    compiled = tf.function(round_trip, jit_compile=True, autograph=False)
    for received, expected in zip(
        compiled(logits), round_trip(logits), strict=True
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


def test_compiled_for_any_number_of_tokens():
    signature = [
        tf.TensorSpec((None, None, 2), dtype) for dtype in (tf.int32, "float32")
    ]

    @tf.function(input_signature=signature, autograph=False)
    def expand(ids, values):
        return expand_logits(ids, values, 7)

    for shape in ((2, 3, 7), (1, 5, 7)):
        ids, values = compress_logits(draw(shape), 2)
        np.testing.assert_allclose(
            expand(ids, values), expand_logits(ids, values, 7), rtol=1e-6
        )


@pytest.mark.parametrize("k", [0, -1, 5])
def test_k_must_fit_the_vocabulary(k):
    with pytest.raises(ValueError, match=f"`k` must .* 4. Received: k={k}"):
        compress_logits(np.zeros((1, 4)), k)


def test_what_cannot_be_expanded():
    ids, values = np.array([[0, 1, 2]]), np.zeros((1, 3))
    with pytest.raises(ValueError, match="3 of vocabulary_size=2"):
        expand_logits(ids, values, 2)
    with pytest.raises(ValueError, match="`tail` must be one of.*'equal'"):
        expand_logits(ids, values, 4, tail="equal")
