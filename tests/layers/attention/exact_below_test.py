"""Attention that is exact at lengths where that is faster."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.conversion import linear_attention
from keras_moe.layers import RandomFeatureAttention
from tests.covering import covering
from tests.layers.attention.random_feature_case import DIM
from tests.layers.attention.random_feature_case import data
from tests.layers.attention.random_feature_case import expected
from tests.layers.attention.random_feature_case import make

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
FEATURES, BREAK_EVEN = 4, 16


def softmax_of(layer):
    """A layer of Keras with the same projections."""
    exact = keras.layers.MultiHeadAttention(layer.num_heads, layer.key_dim)
    exact.build((None, None, DIM), (None, None, DIM))
    exact.set_weights([np.asarray(w) for w in layer.trainable_weights])
    return exact


@pytest.fixture(scope="module")
def pair():
    """A layer with the default, and one that never is exact."""
    layers = [make(FEATURES, exact_below=each) for each in ("auto", None)]
    for layer in layers:
        layer.build((None, None, DIM), (None, None, DIM))
    layers[1].set_weights(layers[0].get_weights())
    return layers


@given(
    queries=st.integers(1, 20),
    keys=st.integers(BREAK_EVEN - 3, BREAK_EVEN + 2),
    hidden=st.integers(0, 4),
    together=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_softmax_below_and_features_from_there(
    pair, queries, keys, hidden, together
):
    """By all keys there are, masked or not."""
    auto, never = pair
    value = data(2, keys, seed=keys)
    query = value if together else data(2, queries)
    mask = np.arange(keys) < np.array([[keys], [keys - hidden]])
    received = auto(query, value, value_mask=mask)
    if keys < BREAK_EVEN:
        softmax = softmax_of(auto)(
            query, value, attention_mask=mask[:, None, :]
        )
        np.testing.assert_allclose(received, softmax, **TOLERANCE)
    else:
        reference = never(query, value, value_mask=mask)
        np.testing.assert_array_equal(received, reference)


def test_the_default_is_four_keys_a_feature_as_far_as_was_measured():
    x = data(1, 2047)
    for features, length in ((4, 15), (1024, 2047)):
        layer = RandomFeatureAttention(4, 6, features, seed=1)
        below = np.asarray(layer(x[:, :length], x[:, :length]))
        softmax = softmax_of(layer)(x[:, :length], x[:, :length])
        np.testing.assert_allclose(below, softmax, **TOLERANCE)
    x = data(1, 2048)
    for features, length in ((4, 16), (1024, 2048)):
        layer = RandomFeatureAttention(4, 6, features, seed=1)
        query = x[:, :1]
        from_there = layer(query, x[:, :length])
        np.testing.assert_allclose(
            from_there, expected(layer, query, x[:, :length]), **TOLERANCE
        )


def test_masks_segments_and_lengths_of_run_time():
    exact = keras.layers.MultiHeadAttention(4, 6)
    x, mask = data(2, 9), np.arange(9) < np.array([[9], [4]])
    masks = {"query_mask": mask, "value_mask": mask}
    softmax = exact(x, x, attention_mask=mask[:, None, :] & mask[:, :, None])
    layer = RandomFeatureAttention.from_multi_head_attention(
        exact, num_random_features=8, exact_below=10
    )
    received = np.asarray(layer(x, x, **masks))
    np.testing.assert_allclose(received[mask], softmax[mask], **TOLERANCE)
    spec = tf.TensorSpec((None, None, DIM))
    dynamic = tf.function(
        lambda x: layer(x, x), input_signature=[spec], autograph=False
    )
    np.testing.assert_allclose(dynamic(x), exact(x, x), **TOLERANCE)
    long = data(2, 10)
    np.testing.assert_allclose(dynamic(long), layer(long, long), **TOLERANCE)
    assert np.abs(layer(long, long) - exact(long, long)).max() > 1e-3
    segment_ids = np.array([[1] * 4 + [2] * 5] * 2)
    packed = np.asarray(layer(x, x, segment_ids=segment_ids))
    np.testing.assert_allclose(
        packed[:, :4], exact(x[:, :4], x[:, :4]), **TOLERANCE
    )


def test_causal_attention_is_never_exact(pair):
    """A step must equal the full pass, and knows no length."""
    auto, _ = pair
    x = data(2, 9)
    np.testing.assert_allclose(
        auto(x, x, use_causal_mask=True),
        expected(auto, x, x, causal=True),
        **TOLERANCE,
    )
    layer = make(FEATURES, causal=True, exact_below="auto")
    whole, state = layer(x, x), layer.init_state(2)
    for position in range(9):
        step, state = layer.step(x[:, position : position + 1], state)
        np.testing.assert_allclose(step[:, 0], whole[:, position], **TOLERANCE)


@pytest.mark.parametrize(
    ("length", "masked"),
    covering([BREAK_EVEN - 1, BREAK_EVEN], [True, False], strength=1),
)
def test_a_memory_answers_as_the_call_does(pair, length, masked):
    auto, _ = pair
    query, value = data(2, 5), data(2, length, seed=1)
    mask = np.arange(length) < np.array([[length], [length // 2]])
    mask = mask if masked else None

    def answer(query, value):
        return auto.attend_to_memory(query, auto.encode_memory(value, mask))

    whole = auto(query, value, value_mask=mask)
    spec = tf.TensorSpec((2, None, DIM))
    dynamic = tf.function(answer, input_signature=[spec, spec], autograph=False)
    compiled = tf.function(answer, jit_compile=True, autograph=False)
    # By XLA also in the next test but one.
    for each in (answer, dynamic, compiled) if masked else (answer, dynamic):
        np.testing.assert_allclose(each(query, value), whole, **TOLERANCE)


def test_a_long_memory_keeps_no_keys(pair):
    auto, never = pair
    for layer, length, kept in (
        (auto, BREAK_EVEN - 1, BREAK_EVEN - 1),
        (auto, BREAK_EVEN, 0),
        (never, 1, 0),
    ):
        memory = layer.encode_memory(data(2, length))
        assert memory.keys.shape[3] == memory.values.shape[3] == kept
        assert memory.mask.shape == (2, 1, 1, kept)


def test_xla_is_exact_where_it_knows_the_length(pair):
    auto, never = pair
    spec = tf.TensorSpec((None, None, DIM))

    def both_ways(query, value):
        memory = auto.encode_memory(value)
        return auto(query, value), auto.attend_to_memory(query, memory)

    known = tf.function(both_ways, jit_compile=True, autograph=False)
    unknown = tf.function(
        both_ways,
        input_signature=[spec, spec],
        jit_compile=True,
        autograph=False,
    )
    query, value = data(2, 3), data(2, 9, seed=1)
    for received in known(query, value):
        np.testing.assert_allclose(
            received, softmax_of(auto)(query, value), **TOLERANCE
        )
    # A condition would compile both branches, at lengths of any size.
    for received in unknown(query, value):
        np.testing.assert_allclose(received, never(query, value), **TOLERANCE)


def test_gradients_are_those_of_softmax(pair):
    auto, _ = pair
    x, exact = tf.constant(data(2, 9)), softmax_of(auto)

    def gradient(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x, x)))
        return tape.gradient(loss, x)

    spec = tf.TensorSpec((None, None, DIM))
    dynamic = tf.function(
        lambda x: gradient(auto, x), input_signature=[spec], autograph=False
    )
    for received in (gradient(auto, x), dynamic(x)):
        np.testing.assert_allclose(
            received, gradient(exact, x), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("exact_below", ["auto", 12, None])
def test_configs_keep_what_they_said(tmp_path, exact_below):
    inputs = keras.Input((None, DIM))
    layer = make(FEATURES, exact_below=exact_below, name="attention")
    model = keras.Model(inputs, layer(inputs, inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("attention").exact_below == exact_below
    for length in (5, 13, 20):
        x = data(1, length)
        np.testing.assert_allclose(loaded(x), model(x), **TOLERANCE)


def test_the_default_is_for_softmax_alone():
    layer, x = make(feature_map="relu", exact_below="auto"), data(2, 5)
    np.testing.assert_allclose(layer(x, x), expected(layer, x, x), **TOLERANCE)


@pytest.mark.filterwarnings("ignore:.*relative_variance")
def test_a_converted_model_is_exact_on_short_inputs_and_so_is_its_export(
    tmp_path,
):
    inputs = keras.Input((None, DIM))
    attention = keras.layers.MultiHeadAttention(4, 6, name="attention")
    dense = keras.Model(inputs, attention(inputs, inputs))
    linear = linear_attention(dense, num_random_features=FEATURES)
    linear.export(tmp_path / "version", verbose=False)
    served = tf.saved_model.load(tmp_path / "version")
    serve = served.signatures["serving_default"]
    for length, near in ((BREAK_EVEN - 1, True), (BREAK_EVEN, False)):
        x = data(1, length)
        ours, theirs = np.asarray(linear(x)), np.asarray(dense(x))
        assert np.allclose(ours, theirs, **TOLERANCE) == near
        (answer,) = serve(tf.constant(x)).values()
        np.testing.assert_allclose(answer, ours, **TOLERANCE)
