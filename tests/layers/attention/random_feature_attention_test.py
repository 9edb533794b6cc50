import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.keras_internals import get_mask
from keras_moe.layers import RandomFeatureAttention
from tests.covering import covering
from tests.layers.attention.random_feature_case import DIM
from tests.layers.attention.random_feature_case import data
from tests.layers.attention.random_feature_case import expected
from tests.layers.attention.random_feature_case import make
from tests.layers.layer_test_case import run_layer_test

FEATURE_MAPS = ("favor+", "hyperbolic", "favor++", "relu", "elu")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def padding(batch=2, length=9):
    return np.arange(length) < np.array([[length], [length // 2]])[:batch]


@pytest.mark.parametrize(
    "arguments",
    [
        {"causal": True, "rotary": True, "num_key_value_heads": 2},
        *(
            pytest.param(arguments, marks=pytest.mark.large)
            for arguments in (
                {},
                {"feature_map": "relu", "use_bias": False, "value_dim": 5},
                {"feature_map": "favor+", "projection": "iid"}
                | {"output_shape": 7},
                {"covariance": "per_dimension", "exact_below": 4},
            )
        ),
    ],
)
def test_keras_layer_test(arguments):
    output = (2, 5, arguments.get("output_shape", DIM))
    run_layer_test(
        RandomFeatureAttention,
        {"num_heads": 4, "key_dim": 6, "num_random_features": 8, **arguments},
        input_shape={"query_shape": (2, 5, DIM), "value_shape": (2, 5, DIM)},
        expected_output_shape=output,
        expected_num_seed_generators=0,
        expected_num_losses=0,
        supports_masking=True,
        run_training_check=False,
    )


@pytest.mark.parametrize(
    ("feature_map", "causal", "shared"),
    covering(FEATURE_MAPS, [False, True], [1, 2, 4]),
)
def test_equals_all_pairs(feature_map, causal, shared):
    layer = make(
        feature_map=feature_map,
        causal=causal,
        num_key_value_heads=shared,
        rotary=True,
        bias_initializer="glorot_uniform",
    )
    x, mask = data(2, 9), padding()
    layer.adapt(x, x, query_mask=mask, value_mask=mask)
    received = layer(x, x, query_mask=mask, value_mask=mask)
    masks = {"query_mask": mask, "value_mask": mask}
    np.testing.assert_allclose(
        received, expected(layer, x, x, causal=causal, **masks), **TOLERANCE
    )


@pytest.mark.parametrize(
    ("covariance", "projection", "antithetic"),
    covering(
        ["isotropic", "per_dimension", "dense"],
        ["orthogonal", "simplex", "iid"],
        [False, True],
    ),
)
def test_every_option_equals_all_pairs(covariance, projection, antithetic):
    layer = make(
        covariance=covariance, projection=projection, antithetic=antithetic
    )
    query, value = data(2, 7), data(2, 11, seed=1, scale=2.0) + 1.0
    layer.adapt(query, value)
    np.testing.assert_allclose(
        layer(query, value), expected(layer, query, value), **TOLERANCE
    )


def test_cross_attention_with_keys_of_their_own():
    layer = make()
    query, key, value = data(2, 7), data(2, 11, seed=1), data(2, 11, seed=2)
    mask = padding(length=11)
    received = layer(query, value, key, value_mask=mask)
    reference = expected(layer, query, value, key, value_mask=mask)
    np.testing.assert_allclose(received, reference, **TOLERANCE)
    other = np.roll(mask, 2, axis=1)
    received = layer(query, value, key, value_mask=mask, key_mask=other)
    reference = expected(layer, query, value, key, value_mask=mask & other)
    np.testing.assert_allclose(received, reference, **TOLERANCE)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_sequences_are_as_if_alone(causal):
    layer = make(causal=causal, rotary=True)
    segment_ids = np.array([[1] * 5 + [2] * 4 + [3] * 3 + [0] * 2] * 2)
    x = data(2, 14)
    received = np.asarray(layer(x, x, segment_ids=segment_ids))
    for start, end in ((0, 5), (5, 9), (9, 12)):
        alone = layer(x[:, start:end], x[:, start:end])
        np.testing.assert_allclose(received[:, start:end], alone, **TOLERANCE)
    assert not received[:, 12:].any()
    np.testing.assert_allclose(
        received,
        expected(layer, x, x, causal=causal, segment_ids=segment_ids),
        **TOLERANCE,
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("content", [np.nan, np.inf, 1e30])
def test_what_padding_holds_changes_no_bit(causal, content):
    layer = make(causal=causal)
    x, mask = data(2, 9), padding()
    layer.adapt(x, x)
    reference = layer(x, x, query_mask=mask, value_mask=mask)
    loud = np.where(mask[..., None], x, content).astype("float32")
    received = layer(loud, loud, query_mask=mask, value_mask=mask)
    np.testing.assert_array_equal(received, reference)
    # Neither bits of the other row, which has no padding.
    np.testing.assert_allclose(received[0], layer(x, x)[0], **TOLERANCE)


def test_what_padding_holds_enters_no_statistics_and_no_gradient():
    x, mask = data(2, 9), padding()
    results = []
    for content in (0.0, np.nan):
        layer = make()
        layer.build(x.shape, x.shape)
        keras.utils.set_random_seed(0)
        for weight in layer.trainable_weights:
            weight.assign(keras.random.normal(weight.shape, seed=3))
        loud = np.where(mask[..., None], x, content).astype("float32")
        with tf.GradientTape() as tape:
            outputs = layer(
                loud, loud, query_mask=mask, value_mask=mask, training=True
            )
            loss = ops.sum(ops.square(outputs))
        values = [weight.value for weight in layer.trainable_weights]
        gradients = tape.gradient(loss, values)
        results.append([*layer.get_weights(), *gradients])
    for quiet, loud in zip(*results, strict=True):
        np.testing.assert_array_equal(quiet, loud)
        assert np.isfinite(np.asarray(loud)).all()


def test_updating_statistics_does_not_disturb_the_step():
    """Features are those from before the update, forwards and backwards."""
    x = data(2, 9, scale=3.0)
    layer = make(rotary=True)
    layer.build(x.shape, x.shape)
    weights = layer.get_weights()
    results = []
    for training in (False, True):
        layer.set_weights(weights)
        for run in (lambda f: f, tf.function):

            def step(x, training=training):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    outputs = layer(x, x, training=training)
                return outputs, tape.gradient(outputs, x)

            layer.set_weights(weights)
            results.append(run(step)(tf.constant(x)))
    for result in results[1:]:
        for each, other in zip(results[0], result, strict=True):
            np.testing.assert_allclose(each, other, **TOLERANCE)


def test_keras_masks_arrive():
    ids = np.array([[3, 4, 5, 0, 0], [1, 2, 3, 4, 5]])
    inputs = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(9, DIM, mask_zero=True)(inputs)
    layer = make()
    outputs = layer(embedded, embedded)
    model = keras.Model(inputs, outputs)
    received = model(ids)
    x = np.asarray(model.layers[1](ids))
    masks = {"query_mask": ids != 0, "value_mask": ids != 0}
    np.testing.assert_allclose(
        received, expected(layer, x, x, **masks), **TOLERANCE
    )
    assert not np.asarray(received)[0, 3:].any()
    np.testing.assert_array_equal(get_mask(received), ids != 0)


def test_rows_that_see_nothing_are_zero():
    x, nothing = data(2, 5), np.zeros((2, 5), bool)
    for causal in (False, True):
        layer = make(causal=causal)
        assert not np.asarray(layer(x, x, value_mask=nothing)).any()
    short = make(exact_below=100)
    assert not np.asarray(short(x, x, value_mask=nothing)).any()


def test_tends_to_softmax_attention():
    exact = keras.layers.MultiHeadAttention(4, 6)
    x = data(2, 40)
    for arguments in ({}, {"use_causal_mask": True}):
        softmax = exact(x, x, **arguments)
        errors = []
        for features in (64, 4096):
            layer = RandomFeatureAttention.from_multi_head_attention(
                exact,
                num_random_features=features,
                exact_below=None,
                seed=1,
            )
            layer.adapt(x, x)
            received = layer(x, x, **arguments)
            errors.append(np.linalg.norm(received - softmax))
        # Eight times fewer where features are 64 times as many.
        assert errors[1] < errors[0] / 4
        assert errors[1] < 0.05 * np.linalg.norm(softmax)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0, 8.0])
def test_is_exact_in_float32_at_any_scale(scale):
    layer = make(64)
    x = data(1, 30, scale=scale)
    layer.adapt(x, x)
    received, reference = layer(x, x), expected(layer, x, x)
    error = np.linalg.norm(received - reference) / np.linalg.norm(reference)
    assert error < 1e-5


def test_what_is_not_a_number_shows():
    layer = make()
    x, broken = data(2, 9), data(2, 9)
    broken[0, 3] = np.nan
    query_alone = np.asarray(layer(broken, x))
    assert np.isnan(query_alone[0, 3]).all()
    assert np.isfinite(np.delete(query_alone[0], 3, axis=0)).all()
    assert np.isnan(np.asarray(layer(x, broken))[0]).all()


@pytest.mark.parametrize("causal", [False, True])
def test_segments_are_runs_even_where_ids_come_again(causal):
    x = data(2, 12)
    again = np.array([[1] * 5 + [0] * 2 + [1] * 5] * 2)
    apart = np.array([[1] * 5 + [0] * 2 + [2] * 5] * 2)
    for layer in (make(causal=causal), make(exact_below=100)):
        np.testing.assert_array_equal(
            layer(x, x, segment_ids=again), layer(x, x, segment_ids=apart)
        )


def test_no_keys_at_all():
    for arguments in ({}, {"exact_below": 9}, {"causal": True}):
        layer = make(**arguments)
        layer(data(2, 3), data(2, 3))
        assert layer(data(2, 0), data(2, 0)).shape == (2, 0, DIM)
    query, nothing = data(2, 3), data(2, 0)
    for layer in (make(), make(exact_below=9)):
        layer(query, query)
        assert not np.asarray(layer(query, nothing)).any()
